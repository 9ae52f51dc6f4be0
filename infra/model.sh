#!/usr/bin/env bash
# Checks docs/model/move.pml with Spin: no invariant breaks in any state, no run is
# infinite, and each seeded bug is found. Prints one line for each and a summary.
# `--deep` explores more: some minutes and 4 GB. JOBS (default: all cores) run at once.
set -euo pipefail
model=$(cd "$(dirname "$0")/.." && pwd)/docs/model/move.pml

# checks prints one check a line: what is expected, its name, the model's flags.
checks() {
	cat <<-'END'
		clean|two moves, a zombie anywhere|-DROUNDS=0
		clean|one move, two writes each|-DMOVES=1 -DWRITES=2
		clean|one move, a zombie, a lossy failover|-DMOVES=1 -DROUNDS=0 -DFAILOVER
		clean|two moves, a lossy failover|-DCRASHES=0 -DFAILOVER
		ends|one move, a zombie|-DMOVES=1
		ends|two moves|-DCRASHES=0
		ends|one move, a lossy failover|-DMOVES=1 -DCRASHES=0 -DFAILOVER
		bug|GUARD_BEFORE_LOCK|-DMOVES=1
		bug|ARM_WITHOUT_LOCK|-DMOVES=1
		bug|COPY_TWICE|-DMOVES=1
		bug|ROUND_TWICE|-DMOVES=1 -DWRITES=2
		bug|PRUNE_BEFORE_COMMIT|-DMOVES=1
		bug|FREEZE_WITHOUT_LOCK|-DMOVES=1
		bug|FREEZE_ANY_EPOCH|-DMOVES=1
		bug|SKIP_FREEZE|-DMOVES=1
		bug|ANY_MOVE_ID|
		bug|ACTIVATE_BEFORE_CAS|-DMOVES=1
		bug|DECIDE_WITHOUT_CAS|-DMOVES=1
		bug|UNFREEZE_WITHOUT_CAS|-DMOVES=1
		bug|ABORT_KEEPS_EPOCH|-DMOVES=1
		bug|ABORT_BUMPS_LATE|-DMOVES=1
		bug|ABORT_FORGETS_TARGET|
		bug|ACTIVATE_UNARMED|
		bug|UNDO_DURING_PURGE|
		bug|DISARM_WITHOUT_LOCK|
		bug|PROMOTED_SERVES|-DMOVES=1 -DFAILOVER
		bug|RECONCILE_WITHOUT_CAS|-DMOVES=1 -DFAILOVER
		bug|RECONCILE_ROWS_ONLY|-DMOVES=1 -DFAILOVER
		bug|RECONCILED_SHADOW|-DCRASHES=0 -DFAILOVER
	END
}

deep() {
	cat <<-'END'
		clean|two moves, a zombie anywhere, a round|
		clean|two moves, two zombies|-DCRASHES=2
		clean|three moves, no early round|-DMOVES=3 -DROUNDS=0 -DCRASHES=0
		clean|one move, a zombie, a round, a lossy failover|-DMOVES=1 -DFAILOVER
		ends|two moves, a zombie|
	END
}

# check KIND|NAME|FLAGS: makes the checker in a directory of its own, runs it to its
# first error and prints a line. Only a search that saw every state counts as clean.
check() {
	IFS='|' read -r kind name flags <<<"$1"
	case $kind in
	ends) cc="-O2 -DNP -DCOLLAPSE" run="-l -w24" ;; # looks for a cycle that makes no progress: any cycle
	clean) cc="-O2 -DSAFETY -DCOLLAPSE" run=-w24 ;;
	bug) cc="-O0 -DSAFETY" run=-w18 flags="-DBUG=$name $flags" ;;
	esac
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cd "$work"
	# shellcheck disable=SC2086 # each of these is a list of flags
	{ spin $flags -a "$model" && gcc -w -DNOFAIR -DNOBOUNDCHECK $cc -o pan pan.c && ./pan -m500000 $run; } >out 2>&1 || true

	found=$(sed -nE 's/^pan:[0-9]+: (.*) \(at depth.*/\1/p' out | head -1 | grep -oE 'I[0-9]+|[a-z -]+' | tail -1 || true)
	states=$(sed -nE 's/^ *([0-9]+) states, stored.*/\1/p' out)
	seconds=$(sed -nE 's/^pan: elapsed time ([0-9.e+-]+) seconds/\1/p' out)
	ok=FAILED
	if [ "$kind" = bug ]; then
		if [[ $found == I* ]]; then ok=ok; fi
	elif [ -n "$states" ] && [ -z "$found" ] && ! grep -qE 'not completed|depth too small|out of memory' out; then
		ok=ok
	fi
	printf '%-6s %-5s %-46s %9s states %7s s  %s\n' $ok "$kind" "$name" "${states:-no}" "${seconds:--}" "$found"
	if [ $ok = FAILED ]; then tail -20 out; fi
}

install_spin() {
	if command -v spin >/dev/null && command -v gcc >/dev/null; then return; fi
	local sudo=()
	[ "$(id -u)" -eq 0 ] || sudo=(sudo)
	if ! command -v apt-get >/dev/null || { [ ${#sudo[@]} -gt 0 ] && ! command -v sudo >/dev/null; }; then
		echo "missing: spin, gcc; run as root: apt-get install -y spin gcc libc6-dev" >&2
		exit 1
	fi
	"${sudo[@]}" apt-get update -qq >&2
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends spin gcc libc6-dev >&2
}

if [ "${1:-}" = --check ]; then
	check "$2"
	exit
fi
install_spin
exec 3>&1
lines=$({ checks; if [ "${1:-}" = --deep ]; then deep; fi; } |
	xargs -d '\n' -n1 -P "${JOBS:-$(nproc)}" "$0" --check | tee >(cat >&3))
failed=$(grep -c '^FAILED' <<<"$lines" || true)
echo "model: $(grep -c '^ok' <<<"$lines" || true) passed, $failed failed"
[ "$failed" -eq 0 ]
