#!/usr/bin/env bash
# Writes the secrets that docker-compose.yml reads, one file per service, into
# DIR (default .cellway/compose, which Git ignores), and operator.env, which a
# person sources to use cellctl. Secrets that are there already are kept.
#
#     infra/deploy/secrets.sh [DIR]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:-$root/.cellway/compose}
cells=(c1 c2 c3)

umask 077
mkdir -p "$dir"

# The directory's program signs; it comes from bin/, from the sources or from the image.
directory() {
	if [ -x "$root/bin/directory" ]; then "$root/bin/directory" "$@"
	elif command -v go >/dev/null; then (cd "$root" && go run ./directory/cmd/directory "$@")
	else docker run --rm -i -e DIRECTORY_TOKEN_KEYS "${CELLWAY_IMAGE:-cellway:dev}" directory "$@"; fi
}
sign() { DIRECTORY_TOKEN_KEYS=$tokens directory issue-token --kind "$1" --subject "$2" --ttl 8760h; }
write() { cat >"$dir/$1.env"; }
password() { head -c 24 /dev/urandom | od -An -vtx1 | tr -d ' \n'; }

# What routers shared, before each had a token of its own.
if [ -e "$dir/router.env" ] && [ ! -e "$dir/router-2.env" ]; then
	tokens=$(sed -n 's/^DIRECTORY_TOKEN_KEYS=//p' "$dir/directory.env")
	for router in router-1 router-2; do
		token=$(sign router "$router")
		{ echo "ROUTER_DIRECTORY_TOKEN=$token"; grep -v '^ROUTER_DIRECTORY_TOKEN=' "$dir/router.env"; } | write "$router"
	done
fi
if [ -e "$dir/operator.env" ]; then
	echo "secrets.sh: $dir is complete" >&2
	exit 0
fi

tokens=$(directory new-key --id k1)
assertions=$(directory new-key --id a1)
# Each process gets the keys that it needs, and none that make what others accept.
derive() { directory derive-keys --for "$1"; }
tenants=$(derive tenants <<<"$tokens")
movers=$(derive movers <<<"$tokens")
public=$(derive public <<<"$movers")

password=$(password)
write directory-postgres <<<"POSTGRES_PASSWORD=$password"
write directory <<-EOF
	DIRECTORY_DATABASE_URL=postgres://postgres:$password@directory-postgres:5432/directory?sslmode=disable
	DIRECTORY_TOKEN_KEYS=$tokens
EOF

for router in router-1 router-2; do
	write "$router" <<-EOF
		ROUTER_DIRECTORY_TOKEN=$(sign router "$router")
		ROUTER_TOKEN_KEYS=$tenants
		ROUTER_ASSERTION_KEYS=$assertions
	EOF
done

for cell in "${cells[@]}"; do
	password=$(password) redis=$(password)
	write "$cell-postgres" <<<"POSTGRES_PASSWORD=$password"
	write "$cell-redis" <<<"REDISCLI_AUTH=$redis"
	write "$cell" <<-EOF
		CELL_OWNER_DATABASE_URL=postgres://postgres:$password@$cell-postgres:5432/cell?sslmode=disable
		CELL_DATABASE_URL=postgres://cell_login:$(password)@$cell-postgres:5432/cell?sslmode=disable
		CELL_MOVER_DATABASE_URL=postgres://mover_login:$(password)@$cell-postgres:5432/cell?sslmode=disable
		CELL_REDIS_URL=redis://:$redis@$cell-redis:6379/0
		CELL_DIRECTORY_TOKEN=$(sign cell "$cell")
		CELL_TOKEN_KEYS=$(derive "cell/$cell" <<<"$tenants")
		CELL_ASSERTION_KEYS=$(derive "cell/$cell" <<<"$assertions")
		CELL_CONTROL_KEYS=$public
	EOF
done

write mover <<-EOF
	MOVER_DIRECTORY_TOKEN=$(sign mover mover)
	MOVER_TOKEN_KEYS=$movers
EOF

write grafana <<<"GF_SECURITY_ADMIN_PASSWORD=$(password)"

# Last, because it marks the set as complete.
write operator <<-EOF
	CELLCTL_ADDR=http://127.0.0.1:${DIRECTORY_PORT:-7000}
	CELLCTL_ROUTER=http://127.0.0.1:${ROUTER_1_ADMIN_PORT:-8081}
	CELLCTL_TOKEN=$(sign operator operator)
EOF
echo "secrets.sh: wrote $dir; for cellctl: set -a; . $dir/operator.env; set +a" >&2
