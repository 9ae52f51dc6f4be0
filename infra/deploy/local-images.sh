#!/usr/bin/env bash
# Builds, from Debian's packages alone, the images that docker-compose.yml takes
# from a registry by default. An image that is there already is kept. Prints the
# variables that make docker-compose.yml use them (eval "$(local-images.sh)").
# Needs root and debootstrap for the base image. Grafana is not in Debian, and
# Consul only comes from CONSUL_BIN (or PATH): without them those two stay out.
set -euo pipefail
cd "$(dirname "$0")"

say() { echo "local-images: $*" >&2; }
there() { docker image inspect "$1" >/dev/null 2>&1; }

# The mirror that this machine's apt uses for the suite, so that an offline
# workplace's own mirror is found without being named here.
mirror() {
	local suite=$1 found
	found=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		awk -v s="$suite" '$2 == s && $3 == "main" { sub(/\/$/, "", $1); print $1; exit }') || true
	echo "${found:-http://deb.debian.org/debian}"
}

# The proxy that this machine's apt uses, if any.
proxy() {
	local p=
	eval "$(apt-config shell p Acquire::http::Proxy 2>/dev/null || true)"
	echo "$p"
}

base() {
	local dir
	there debian:bookworm-slim && return
	say "making debian:bookworm-slim with debootstrap"
	dir=$(mktemp -d)
	http_proxy=$(proxy) debootstrap --variant=minbase bookworm "$dir" "$(mirror bookworm)" >"$dir.log" 2>&1 ||
		{ tail -5 "$dir.log" >&2; say "debootstrap failed, see $dir.log"; return 1; }
	rm -rf "$dir"/var/cache/apt/archives/*.deb "$dir"/var/lib/apt/lists/*
	tar -C "$dir" -c . | docker import - debian:bookworm-slim >/dev/null
	rm -rf "$dir" "$dir.log"
}

# build NAME CONTEXT makes cellway-local/NAME from local/NAME.Dockerfile.
build() {
	there "cellway-local/$1" && return
	say "building cellway-local/$1"
	DOCKER_BUILDKIT=0 docker build -q --network host --build-arg http_proxy="$(proxy)" \
		-t "cellway-local/$1" -f "local/$1.Dockerfile" "$2" >&2
}

base
build postgres local
build redis local
build prometheus local
echo "export POSTGRES_IMAGE=cellway-local/postgres REDIS_IMAGE=cellway-local/redis PROMETHEUS_IMAGE=cellway-local/prometheus"

consul=${CONSUL_BIN:-$(command -v consul || true)}
if [ -n "$consul" ]; then
	context=$(mktemp -d)
	trap 'rm -rf "$context"' EXIT
	cp "$consul" "$context/consul"
	build consul "$context"
	echo "export CONSUL_IMAGE=cellway-local/consul"
fi
