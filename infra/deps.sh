#!/usr/bin/env bash
# Installs what `make demo` and `make test` need besides Go, make and git, or says
# exactly what is missing. Run twice it does nothing the second time. `deps.sh peers`
# adds what `make bench-peers` compares with and measures by, `deps.sh move` what `make bench-move` does,
# `deps.sh origins` the servers that TestOrigins tries the router on. Only CI cannot do without those.
#
# Debian's packages of Postgres and Redis start a server of their own when they are
# installed; Cellway starts its own servers and must not compete with those, so
# that is prevented here.
set -euo pipefail

missing=()
have() { command -v "$1" >/dev/null 2>&1; }

have gcc || missing+=(gcc libc6-dev) # the race detector is built with cgo
have curl || missing+=(curl ca-certificates)
have redis-server || missing+=(redis-server)
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || have postgres || [ -n "${CELLWAY_POSTGRES_BIN:-}" ] || missing+=(postgresql)
if [ "${1:-}" = move ]; then
	have pgcopydb || missing+=(pgcopydb)
fi
if [ "${1:-}" = peers ] || [ "${1:-}" = origins ]; then
	have nginx || [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
	have haproxy || [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
fi
if [ "${1:-}" = origins ]; then
	have node || missing+=(nodejs)
fi
if [ "${1:-}" = peers ]; then
	have wrk || missing+=(wrk)
	have h2load || missing+=(nghttp2-client)
	have strace || missing+=(strace)
	have taskset || missing+=(util-linux)
fi

if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

if ! have apt-get; then
	echo "missing: ${missing[*]}" >&2
	echo "hint: install them with your package manager (macOS: brew install postgresql@16 redis nginx haproxy node), then run make again" >&2
	exit 1
fi

sudo=()
if [ "$(id -u)" -ne 0 ]; then
	have sudo || { echo "missing: ${missing[*]}; run as root: apt-get install -y ${missing[*]}" >&2; exit 1; }
	sudo=(sudo)
fi

echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# A policy of our own, only while we install and only if the machine has none.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
	"${sudo[@]}" chmod +x $policy
	trap '"${sudo[@]}" rm -f $policy' EXIT
fi
"${sudo[@]}" apt-get update -qq
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
	"${sudo[@]}" apt-get install -y -qq --no-install-recommends postgresql-common
	"${sudo[@]}" sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
fi
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
