# Sourced by compose-smoke.sh: finds a Docker engine or, as root on Debian,
# installs and starts one, and stops only what it started.

engine_pid=

# engine_up leaves a working `docker` and a `compose` function, or says why not
# in $engine_why and fails. $1 is a directory for the engine's log.
engine_up() {
	if ! timeout 20 docker info >/dev/null 2>&1; then
		# A client alone is not an engine: some machines come with just that.
		command -v docker >/dev/null && command -v dockerd >/dev/null || engine_install || return 1
		engine_start "$1" || return 1
	fi
	if docker compose version >/dev/null 2>&1; then
		compose() { docker compose "$@"; }
	elif command -v docker-compose >/dev/null || engine_install; then
		compose() { docker-compose "$@"; }
	else
		return 1
	fi
}

# engine_install installs Debian's engine without letting apt start a service
# that nobody would stop.
engine_install() {
	engine_why="no Docker engine answers, and this is not root on Debian, who could install one"
	[ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
	echo "installing docker.io, docker-compose and debootstrap" >&2
	local policy=/usr/sbin/policy-rc.d ours= ok=0
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && ours=1
	fi
	DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			docker.io docker-compose debootstrap >/dev/null || ok=1
	[ -z "$ours" ] || rm -f $policy
	engine_why="apt-get could not install docker.io, docker-compose and debootstrap"
	return $ok
}

engine_start() {
	engine_why="no Docker engine answers, and only root can start one"
	[ "$(id -u)" -eq 0 ] && command -v dockerd >/dev/null || return 1
	echo "starting dockerd" >&2
	setsid dockerd --pidfile "$1/dockerd.pid" >"$1/dockerd.log" 2>&1 &
	engine_pid=$!
	for _ in $(seq 60); do
		docker info >/dev/null 2>&1 && return 0
		kill -0 "$engine_pid" 2>/dev/null || break
		sleep 1
	done
	engine_why="dockerd does not start here: $(grep -oE 'failed to start daemon.*' "$1/dockerd.log" | tail -1)"
	engine_down
	return 1
}

# engine_down ends the engine that engine_start began, if any.
engine_down() {
	[ -n "$engine_pid" ] || return 0
	kill "$engine_pid" 2>/dev/null
	wait "$engine_pid" 2>/dev/null
	engine_pid=
}
