#!/usr/bin/env bash
# Builds the images, starts docker-compose.yml, runs a tenant's life through it,
# shows that a cell cannot reach another cell's servers, and takes it all down.
# The end of `make check`; it needs bin/ (`make build`).
#
# COMPOSE_SMOKE_OPTIONAL=1: where Docker cannot run at all, exit 0 and say SKIP.
# COMPOSE_SMOKE_KEEP=1: leave the containers running for a look.
# What is left after a failure is in .cellway/compose-smoke/.
set -uo pipefail
cd "$(dirname "$0")/../.."

project=cellway-smoke
work=$(mktemp -d)
kept=.cellway/compose-smoke
passed=0 failed=0
. infra/deploy/engine.sh

say() { echo "compose-smoke: $*"; }

# check SENTENCE COMMAND... counts whether COMMAND succeeds.
check() {
	local sentence=$1
	shift
	if "$@" >"$work/out" 2>&1; then
		passed=$((passed + 1))
		say "ok    $sentence"
	else
		failed=$((failed + 1))
		say "FAIL  $sentence"
		head -c 2000 "$work/out" | sed 's/^/        /'
	fi
}

# within SECONDS COMMAND... tries until COMMAND succeeds or the time is over.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 2
	done
}

# keep_logs leaves everything in $kept and shows what the ailing containers said last.
keep_logs() {
	state | grep -v -E ' running (healthy|none)$' | while read -r name _; do
		echo "--- ${name#/}"
		docker logs --tail 5 "${name#/}" 2>&1 | cut -c1-400
	done
	mkdir -p "$kept"
	compose -p $project ps >"$kept/ps" 2>&1
	compose -p $project logs --no-color >"$kept/logs" 2>&1
	[ ! -e "$work/dockerd.log" ] || cp "$work/dockerd.log" "$kept/"
	say "logs are in $kept"
}

finish() {
	local code=$?
	trap - EXIT
	trap '' INT TERM
	exec >&3 2>&1 # the end may have come while a check's output went to its file
	if [ -n "${started:-}" ]; then
		[ "$failed" -eq 0 ] && [ "$code" -eq 0 ] || keep_logs
		if [ -n "${COMPOSE_SMOKE_KEEP:-}" ]; then
			say "left running; secrets are in $work, and so is dockerd's log"
			exit "$code"
		fi
		compose -p $project down -v --remove-orphans -t 20 >"$work/down" 2>&1 || { cat "$work/down"; failed=$((failed + 1)); }
	fi
	engine_down
	rm -rf "$work"
	[ -z "${skipped:-}" ] || exit "$code"
	[ "$code" -eq 0 ] || failed=$((failed + 1))
	echo "compose-smoke: $passed passed, $failed failed"
	[ "$failed" -eq 0 ]
	exit
}
exec 3>&1
trap finish EXIT
trap 'say "interrupted" >&3; exit 130' INT TERM

skip() {
	skipped=1
	echo "SKIP: $*"
	[ "${COMPOSE_SMOKE_OPTIONAL:-}" = 1 ]
	exit
}

# have IMAGE: whether the image is here or can be had from its registry.
have() { docker image inspect "$1" >/dev/null 2>&1 || timeout 120 docker pull -q "$1" >/dev/null 2>&1; }

# images chooses official images or builds local ones, and builds the product's.
images() {
	services=(directory-postgres directory router-1 router-2 mover prometheus)
	for c in c1 c2 c3; do services+=("$c-postgres" "$c-redis" "$c" "$c-worker"); done
	CONSUL_ADDR=
	export CONSUL_ADDR CELLWAY_IMAGE=cellway:smoke
	if have "${POSTGRES_IMAGE:-postgres:16}" && have "${REDIS_IMAGE:-redis:7}" && have "${PROMETHEUS_IMAGE:-prom/prometheus:v3.5.0}"; then
		say "using the official images"
	else
		say "no registry: using images of Debian's packages"
		local variables
		variables=$(infra/deploy/local-images.sh) || return 1
		eval "$variables"
	fi
	if have "${CONSUL_IMAGE:-hashicorp/consul:1.21}"; then services+=(consul) && unset CONSUL_ADDR; fi
	if have "${GRAFANA_IMAGE:-grafana/grafana:12.1.1}"; then services+=(grafana); fi

	local file=infra/deploy/Dockerfile.host
	if have golang:1.26-bookworm; then file=infra/deploy/Dockerfile; fi
	say "building $CELLWAY_IMAGE with $file"
	docker build -q -t "$CELLWAY_IMAGE" -f "$file" . >"$work/build" 2>&1 || { cat "$work/build"; return 1; }
}

# start is done again when a process gave up once (a busy machine's Postgres may
# answer too late for it) and was restarted: docker-compose 1.29 does not wait for that.
start() { compose -p $project up -d --no-build "${services[@]}" >"$work/up" 2>&1; }

# state prints name and health of each container.
state() {
	compose -p $project ps -q | xargs docker inspect \
		-f '{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}'
}

all_healthy() { ! state | grep -v -E ' running (healthy|none)$'; }

port() { compose -p $project port "$1" "$2" | sed 's/.*://'; }

# request METHOD URL [curl options]: the status, with the body in $work/body.
request() {
	local method=$1 url=$2
	shift 2
	curl -sS -m 15 -o "$work/body" -w '%{http_code}' -X "$method" "$url" "$@"
}

# answers STATUS METHOD URL [curl options]
answers() {
	local want=$1 got
	shift
	got=$(request "$@")
	[ "$got" = "$want" ] || { echo "status $got, want $want: $(cat "$work/body")"; return 1; }
}

# holds TEXT METHOD URL [curl options]: status 200 and TEXT in the body.
holds() {
	local text=$1
	shift
	answers 200 "$@" && { grep -qF -- "$text" "$work/body" || { echo "no $text in $(cat "$work/body")"; return 1; }; }
}

# member NAME: that string member of the JSON in $work/body.
member() { sed -n "s/.*\"$1\": *\"\\([^\"]*\\)\".*/\\1/p" "$work/body" | head -1; }

address() { docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$(compose -p $project ps -q "$1")" | tr -d ' '; }

# reach FROM SERVICE PORT: a TCP connection from FROM's container. By address,
# because a name that does not resolve proves nothing about packets.
reach() {
	local ip
	ip=$(address "$2")
	[ -n "$ip" ] || { echo "$2 has no address"; return 2; }
	docker exec "$(compose -p $project ps -q "$1")" timeout 3 bash -c "exec 3<>/dev/tcp/$ip/$3"
}

# cut_off FROM SERVICE PORT: there is such an address, and FROM gets no connection to it.
cut_off() {
	reach "$@"
	case $? in 1 | 124) ;; *) return 1 ;; esac
}

not() { ! "$@"; }

# walled CELL OTHER: CELL reaches its own servers and none of OTHER's.
walled() {
	check "$1 reaches its own Postgres" reach "$1" "$1-postgres" 5432
	check "$1 reaches its own Redis" reach "$1" "$1-redis" 6379
	check "$1 cannot reach $2's Postgres" cut_off "$1" "$2-postgres" 5432
	check "$1 cannot reach $2's Redis" cut_off "$1" "$2-redis" 6379
	check "$1 cannot reach the directory's Postgres" cut_off "$1" directory-postgres 5432
}

three_ready() { [ "$(bin/cellctl cell list --no-headers | awk '$2 == "ready" && $3 == "yes"' | wc -l)" -eq 3 ]; }
routers_current() { bin/cellctl router list -o json | tee "$work/routers" | grep -q '"router-2"' && ! grep -q '"lagging"' "$work/routers"; }
explained() { bin/cellctl route explain --path /v1/projects --bearer "$1" -o name | grep -qx "cell/c[123]"; }
in_cell() { [ "$(bin/cellctl tenant where "$1" -o name)" = "cell/$2" ]; }

tenants_life() {
	local one two token auth auth2 json=(-H 'Content-Type: application/json')
	one=http://127.0.0.1:$(port router-1 8080) two=http://127.0.0.1:$(port router-2 8080)
	check "a customer signs up at the global endpoint" answers 201 POST "$one/signup" "${json[@]}" -d '{"slug":"acme","name":"Acme"}'
	token=$(member token)
	auth=(-H "Authorization: Bearer $token")
	check "its token is accepted at the other router" within 10 answers 200 GET "$two/v1/projects" "${auth[@]}"
	check "it creates a project" answers 201 POST "$one/v1/projects" "${auth[@]}" "${json[@]}" -d '{"name":"Rocket"}'
	check "the other router lists it" holds Rocket GET "$two/v1/projects" "${auth[@]}"
	check "the worker consumes its event" within 20 holds '"event_id"' GET "$one/v1/activity" "${auth[@]}"
	check "a router explains where its requests go" explained "$token"
	check "without a token it is 401" answers 401 GET "$one/t/acme/v1/projects"
	check "an operator places a tenant in c2" bin/cellctl tenant create beta --cell c2
	check "and finds it there" in_cell beta c2
	auth2=(-H "Authorization: Bearer $(bin/cellctl token create --tenant beta --subject smoke 2>/dev/null)")
	check "the other tenant sees no project of the first" within 10 answers 200 GET "$one/v1/projects" "${auth2[@]}"
	check "really none" not grep -q Rocket "$work/body"
	local there=c3
	in_cell acme c3 && there=c1
	check "an operator moves the tenant to another cell" bin/cellctl tenant move acme --to $there
	check "and finds it there" in_cell acme $there
	check "with its data, at router-2" within 10 holds Rocket GET "$two/v1/projects" "${auth[@]}"
	check "it writes there" answers 201 POST "$two/v1/projects" "${auth[@]}" "${json[@]}" -d '{"name":"Comet"}'
	check "the move is taken back" undo acme
	check "and it is no longer there" not in_cell acme $there
	check "with what was written meanwhile" within 10 holds Comet GET "$one/v1/projects" "${auth[@]}"
	check "an operator suspends the tenant" bin/cellctl tenant suspend acme
	check "then it is 403 at router-1" within 10 answers 403 GET "$one/v1/projects" "${auth[@]}"
	check "and at router-2" within 10 answers 403 GET "$two/v1/projects" "${auth[@]}"
	check "resumed, it is served again" bin/cellctl tenant resume acme
	check "with its data" within 10 holds Rocket GET "$one/v1/projects" "${auth[@]}"
	check "delete without --yes is refused" not bin/cellctl tenant delete acme </dev/null
	check "with it, the tenant is deleted" bin/cellctl tenant delete acme --yes
	check "then it is 404 at router-1" within 10 answers 404 GET "$one/v1/projects" "${auth[@]}"
	check "and at router-2" within 10 answers 404 GET "$two/v1/projects" "${auth[@]}"
	check "every router serves the newest table" within 10 routers_current
}

# undo TENANT: takes its newest move back.
undo() { bin/cellctl move undo "$(bin/cellctl move list --tenant "$1" -o name | head -1 | sed 's/.*\///')"; }

# targets_up: Prometheus scrapes every one of our processes (1 + 2 + 3 + 3 + 1).
targets_up() {
	holds '"10"' GET "http://127.0.0.1:$(port prometheus 9090)/api/v1/query" -G \
		--data-urlencode 'query=sum(up{job=~"directory|router|cell|worker|mover"})'
}

# alerts_hold: the alerts fire for what they are about, by Prometheus's own tool.
alerts_hold() { docker exec "$(compose -p $project ps -q prometheus)" promtool test rules /etc/prometheus/alerts_test.yml; }

# alerts_loaded: Prometheus evaluates every group of alerts, and finds no fault in one.
alerts_loaded() {
	request GET "http://127.0.0.1:$(port prometheus 9090)/api/v1/rules" >/dev/null
	[ "$(grep -o '"health":"ok"' "$work/body" | wc -l)" -ge "$(grep -c -E '^ +- (alert|record):' infra/deploy/prometheus/alerts.yml)" ]
}

# orderly: each of our processes ends by itself, with code 0, when told to stop.
orderly() {
	compose -p $project stop -t 30 directory router-1 router-2 c1 c2 c3 c1-worker c2-worker c3-worker mover || return 1
	local name code bad=0
	for name in directory router-1 router-2 c1 c2 c3 c1-worker c2-worker c3-worker mover; do
		code=$(docker inspect -f '{{.State.ExitCode}}' "$(compose -p $project ps -aq "$name" 2>/dev/null || compose -p $project ps -q "$name")")
		[ "$code" = 0 ] || { echo "$name ended with $code"; bad=1; }
	done
	return $bad
}

rm -rf "$kept"
command -v curl >/dev/null || skip "curl is missing"
engine_up "$work" || skip "$engine_why"
images || exit 1

export CELLWAY_SECRETS=$work/secrets
export DIRECTORY_PORT=0 ROUTER_1_PORT=0 ROUTER_1_ADMIN_PORT=0 ROUTER_2_PORT=0 ROUTER_2_ADMIN_PORT=0
export PROMETHEUS_PORT=0 GRAFANA_PORT=0 CONSUL_PORT=0
infra/deploy/secrets.sh "$CELLWAY_SECRETS" || exit 1

# A run that was killed left its volumes, whose passwords are not this run's.
compose -p $project down -v --remove-orphans -t 5 >"$work/down" 2>&1 || { cat "$work/down"; exit 1; }
say "starting ${#services[@]} containers"
started=1
within 400 start || { cat "$work/up"; exit 1; }
check "every container is healthy within 5 minutes" within 300 all_healthy
[ "$failed" -eq 0 ] || exit 1

set -a
. "$CELLWAY_SECRETS/operator.env"
CELLCTL_ADDR=http://127.0.0.1:$(port directory 7000) CELLCTL_ROUTER=http://127.0.0.1:$(port router-1 8081)
set +a
check "three cells are ready and healthy" within 30 three_ready
tenants_life
walled c1 c2
walled c2 c3
check "Prometheus scrapes every process" within 60 targets_up
check "its alerts fire for what they are about" alerts_hold
check "and are evaluated" within 30 alerts_loaded
check "every process stops by itself when told to" orderly
[ "$failed" -eq 0 ]
