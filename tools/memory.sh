#!/bin/sh
# Size of the binary, and resident memory of `harvest up` with everything embedded: a generated market, three symbols,
# Redis, Prometheus, Alertmanager. Prints one line a minute, with the processor time so far, and fails above the limits.
#
#   tools/memory.sh [MINUTES]     default 10; ARGS="--feed ..." adds settings, BIN names another binary
set -eu

cd "$(dirname "$0")/.."
minutes=${1:-10}
bin=${BIN:-bin/harvest}
most_kb=${MOST_KB:-122880}         # 120 MB resident
most_bytes=${MOST_BYTES:-65000000} # 65 MB on disk
[ -x "$bin" ] || make build >/dev/null
[ -r /proc/self/status ] || {
	echo "memory: /proc is needed to read the memory of a process" >&2
	exit 1
}

data=$(mktemp -d)
# shellcheck disable=SC2086 # ARGS is a list of settings
"$bin" up --plain --feed synthetic --data "$data" --embedded-redis-port 0 --metrics-port 0 --publisher-port 0 --monitor-port 0 \
	--alertmanager-port 0 ${ARGS:-} >"$data/out" 2>"$data/log" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$data"' EXIT INT TERM

size=$(wc -c <"$bin")
echo "binary: $((size / 1000000)).$((size / 100000 % 10)) MB ($size bytes)"
minute=0
failed=0
while [ "$minute" -lt "$minutes" ]; do
	sleep 60
	minute=$((minute + 1))
	kill -0 "$pid" 2>/dev/null || {
		echo "memory: harvest up ended by itself" >&2
		tail "$data/log" >&2
		exit 1
	}
	rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
	ticks=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
	echo "minute $minute: $((rss / 1024)) MB resident ($rss kB), $((ticks / $(getconf CLK_TCK))) s of processor time"
	[ "$rss" -le "$most_kb" ] || failed=1
done
[ "$size" -le "$most_bytes" ] || { echo "memory: the binary is larger than $most_bytes bytes" >&2; failed=1; }
[ "$failed" -eq 0 ] || { echo "memory: more than $most_kb kB resident, or too large a binary" >&2; exit 1; }
