#!/bin/sh
# Resident memory of `harvest up` with everything embedded: a generated market, three symbols, Prometheus, Alertmanager.
# Prints one line a minute, with the processor time so far.
#
#   tools/memory.sh [MINUTES]     default 10; ARGS="--feed ..." adds settings, BIN names another binary
set -eu

cd "$(dirname "$0")/.."
minutes=${1:-10}
bin=${BIN:-bin/harvest}
[ -x "$bin" ] || make build >/dev/null
[ -r /proc/self/status ] || {
	echo "memory: /proc is needed to read the memory of a process" >&2
	exit 1
}

data=$(mktemp -d)
# shellcheck disable=SC2086 # ARGS is a list of settings
"$bin" up --plain --data "$data" --embedded-redis-port 0 --metrics-port 0 --publisher-port 0 --monitor-port 0 --alertmanager-port 0 \
	${ARGS:-} >/dev/null 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$data"' EXIT INT TERM

echo "binary $(($(wc -c <"$bin") / 1000)) kB"
minute=0
while [ "$minute" -lt "$minutes" ]; do
	sleep 60
	minute=$((minute + 1))
	kill -0 "$pid" 2>/dev/null || {
		echo "memory: harvest up ended by itself" >&2
		exit 1
	}
	rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
	ticks=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
	echo "minute $minute: $((rss / 1024)) MB resident ($rss kB), $((ticks / $(getconf CLK_TCK))) s of processor time"
done
