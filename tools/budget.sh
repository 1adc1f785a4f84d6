#!/bin/sh
# Memory and processor time of publisher, exporter and monitor, each a process of its own on a real redis-server, for a
# generated market in which every symbol has a position. Prints the rows of the table in docs/OPERATIONS.md.
#
#   tools/budget.sh MINUTES SYMBOLS...     the first half of the minutes is not counted; PORT names the first of five free ports
set -eu

cd "$(dirname "$0")/.."
minutes=$1
shift
bin=$PWD/bin/harvest
[ -x "$bin" ] || make build >/dev/null
command -v redis-server >/dev/null || {
	echo "budget: redis-server is needed: make tools, and .tools/bin in PATH" >&2
	exit 1
}
[ -r /proc/self/status ] || {
	echo "budget: /proc is needed to read the memory of a process" >&2
	exit 1
}
port=${PORT:-27300}
data=$(mktemp -d)
pids=
stop() {
	for pid in $pids; do kill "$pid" 2>/dev/null || true; done
	for pid in $pids; do wait "$pid" 2>/dev/null || true; done
	pids=
}
trap 'stop; rm -rf "$data"' EXIT
trap 'exit 1' INT TERM

# run LOG COMMAND... starts a process and leaves its number in $last.
run() {
	log=$1
	shift
	"$@" >"$data/$log.log" 2>&1 &
	last=$!
	pids="$last $pids" # stopped in reverse order
}
resident() { awk '/^VmRSS/ { printf "%d", $2 * 1.024 / 1000 + 0.5 }' "/proc/$1/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

echo '| symbols | publisher, resident | publisher, processor | exporter, resident | exporter, processor | monitor, resident | monitor, processor | monitor, disk |'
echo '|---|---|---|---|---|---|---|---|'
for symbols in "$@"; do
	names=$(awk -v n="$symbols" 'BEGIN { for (i = 0; i < n; i++) printf "%sS%05dUSDT", i ? "," : "", i }')
	awk -v n="$symbols" -v opened="$(($(date +%s) - 3600))" 'BEGIN {
		printf "["
		for (i = 0; i < n; i++)
			printf "%s{\"symbol\":\"S%05dUSDT\",\"side\":\"LONG\",\"entry_price\":100,\"quantity\":1,\"opened_at_epoch\":%d}", i ? "," : "", i, opened
		print "]"
	}' >"$data/positions.json"
	export REDIS_URL="redis://127.0.0.1:$port/0"
	run redis redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$data"
	sleep 1
	kill -0 "$last" 2>/dev/null || {
		tail -n 3 "$data/redis.log" >&2
		echo "budget: redis-server does not run, and what answers on port $port is somebody else's; name five free ports with PORT" >&2
		exit 1
	}
	run publisher "$bin" publish --feed synthetic --positions "file:$data/positions.json" --symbols "$names" --publisher-port $((port + 1))
	publisher=$last
	run exporter "$bin" export --metrics-port $((port + 2))
	exporter=$last
	run monitor "$bin" monitor --data "$data/monitor-$symbols" --monitor-port $((port + 3)) --alertmanager-port $((port + 4)) \
		--exporter-targets "127.0.0.1:$((port + 2))" --publisher-targets "127.0.0.1:$((port + 1))"
	monitor=$last
	sleep $((minutes * 30))
	row="| $symbols |"
	for pid in $publisher $exporter $monitor; do
		kill -0 "$pid" 2>/dev/null || {
			echo "budget: a process ended by itself" >&2
			tail -n 3 "$data"/*.log >&2
			exit 1
		}
		eval "before_$pid=$(ticks "$pid")"
	done
	begin=$(date +%s)
	sleep $((minutes * 30))
	took=$(($(date +%s) - begin))
	for pid in $publisher $exporter $monitor; do
		eval "spent=\$(( $(ticks "$pid") - before_$pid ))"
		share=$(awk -v t="$spent" -v s="$took" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.1f", 100 * t / hz / s }')
		row="$row $(resident "$pid") MB | $share % |"
	done
	echo "$row $(du -sm "$data/monitor-$symbols" | cut -f 1) MB |"
	stop
done
