#!/bin/sh
# The packages under a systemd that is process 1: a Debian of its own in namespaces of its own, in which nothing of the host is
# changed. Installs the .deb of dist/, and looks at what only systemd can show: the sandbox, credentials, notification, watchdog,
# reload, stop, upgrade, purge. Prints a line for each and ends with an error where one does not hold.
#
#   tools/systemd-test.sh     needs root, and a kernel that lets cgroup2 be mounted in a namespace
set -eu

cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || {
	echo "systemd-test: namespaces with a process 1 need root" >&2
	exit 1
}
tools/debian-root.sh debian-systemd redis-server,systemd,systemd-sysv,dbus
deb=$(ls dist/quantum-harvest_*_amd64.deb)
work=$(mktemp -d)
root=$work/root
cp -a .tools/debian-systemd "$root"
cp "$deb" "$root/root/harvest.deb"
# Two open positions, as a bot of the operator's would write them.
cat >"$root/usr/local/bin/positions" <<'POSITIONS'
#!/bin/sh
while :; do
	for symbol in BTCUSDT ETHUSDT; do
		redis-cli --no-auth-warning -a 'a secret' HSET quantum:state:positions:$symbol symbol $symbol side LONG entry_price 100 \
			quantity 1 opened_at_epoch 1769129938 updated_at_epoch "$(date +%s)"
	done
	sleep 2
done
POSITIONS
chmod 755 "$root/usr/local/bin/positions"

cat >"$work/boot" <<BOOT
set -eu
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for d in null zero full random urandom tty; do touch dev/\$d; mount --bind /dev/\$d dev/\$d; done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
mkdir -p host
pivot_root . host
# Credentials are mounted by systemd and must reach the services.
mount --make-rshared /
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --show-status=0 </dev/null >/boot.log 2>&1
BOOT

unshare --pid --mount --cgroup --net --ipc --uts --fork sh "$work/boot" &
boss=$!
init=
stop() {
	[ -z "$init" ] || kill -KILL "$init" 2>/dev/null || true # process 1 takes all others along
	wait "$boss" 2>/dev/null || true
	rm -rf "$work"
}
trap stop EXIT
trap 'exit 1' INT TERM

inside() { nsenter -t "$init" --mount --pid --net --uts --ipc --cgroup --root --wd env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
failed=0
# holds NAME COMMAND... waits until a command inside succeeds.
holds() {
	what=$1
	shift
	for _ in $(seq 60); do
		if inside "$@" >/dev/null 2>&1; then
			echo "ok      $what"
			return
		fi
		sleep 1
	done
	echo "FAILED  $what"
	failed=1
	inside journalctl --no-pager --lines 15 --unit 'quantum-harvest-*' >&2 || true
}
value() { inside systemctl show --value --property "$2" "quantum-harvest-$1.service"; }

for _ in $(seq 100); do
	init=$(pgrep -P "$boss" || true)
	[ -n "$init" ] && inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded' && break
	sleep 0.2
done
[ -n "$init" ] || {
	echo "systemd-test: no process 1 came up" >&2
	exit 1
}
inside ip link set lo up 2>/dev/null || true
holds 'redis-server runs' redis-cli ping
inside dpkg -i /root/harvest.deb >"$work/dpkg.log" 2>&1 || {
	cat "$work/dpkg.log" >&2
	exit 1
}
for unit in proposal metrics-exporter monitor; do
	holds "quantum-harvest-$unit says that it is ready, in its sandbox" systemctl is-active --quiet "quantum-harvest-$unit"
done
holds 'the publisher tells its state' sh -c 'systemctl show --value -p StatusText quantum-harvest-proposal | grep -q "holds the lease"'
holds 'its folder is its own' sh -c '[ "$(stat -c "%U %a" /var/lib/quantum-harvest-proposal)" = "quantum-harvest 750" ]'

inside sh -c 'redis-cli config set requirepass "a secret" >/dev/null
	printf "a secret\n" >/etc/quantum/credentials/redis-password
	systemd-run --quiet --unit positions /usr/local/bin/positions
	printf "SYMBOLS=BTCUSDT,ETHUSDT\nHARVEST_FEED=synthetic\n" >>/etc/quantum/harvest-proposal.env
	systemctl restart quantum-harvest-proposal quantum-harvest-metrics-exporter'
holds 'the password of Redis comes as a credential' sh -c 'systemctl show --value -p StatusText quantum-harvest-proposal | grep -q "2 open, 2 advised; holds the lease"'
holds 'the exporter has it, too' sh -c 'systemctl show --value -p StatusText quantum-harvest-metrics-exporter | grep -q "shows 2 symbols"'
holds 'the doctor finds nothing wrong' harvest doctor

inside sed -i 's/^SYMBOLS=.*/SYMBOLS=BTCUSDT/' /etc/quantum/harvest-proposal.env
inside systemctl reload quantum-harvest-proposal
holds 'a reload takes the new symbols' sh -c 'systemctl show --value -p StatusText quantum-harvest-proposal | grep -q "1 outside SYMBOLS"'

before=$(value proposal NRestarts)
inside sh -c "kill -STOP $(value proposal MainPID)"
holds 'the watchdog restarts a publisher that hangs' sh -c "[ \"\$(systemctl show --value -p NRestarts quantum-harvest-proposal)\" -gt $before ] && systemctl is-active --quiet quantum-harvest-proposal"
holds 'it goes on' sh -c 'systemctl show --value -p StatusText quantum-harvest-proposal | grep -q "holds the lease; last beat"'

pid=$(value proposal MainPID)
inside systemctl stop quantum-harvest-proposal
holds 'a stop ends well' sh -c '[ "$(systemctl show --value -p Result quantum-harvest-proposal)" = success ]'
holds 'it gave its lease up' sh -c "journalctl --no-pager _PID=$pid | grep -q '^.*Ran '"
inside systemctl start quantum-harvest-proposal

pid=$(value metrics-exporter MainPID)
inside dpkg -i /root/harvest.deb >"$work/dpkg.log" 2>&1 || failed=1
holds 'an installation over it restarts the services' sh -c "systemctl is-active --quiet quantum-harvest-metrics-exporter && [ \"\$(systemctl show --value -p MainPID quantum-harvest-metrics-exporter)\" != $pid ]"
holds 'the env file stays' grep -q '^SYMBOLS=BTCUSDT$' /etc/quantum/harvest-proposal.env

inside dpkg --purge quantum-harvest >"$work/dpkg.log" 2>&1 || failed=1
holds 'a purge leaves no service' sh -c '! systemctl list-units --all --no-legend "quantum-harvest-*" | grep -q running'
holds 'no process' sh -c '! ls -l /proc/[0-9]*/exe 2>/dev/null | grep -q /usr/bin/harvest'
holds 'no file but the password, which is the operator'"'"'s' \
	sh -c '[ "$(find /etc/quantum /var/lib/quantum-harvest* /usr/bin/harvest /lib/systemd/system/quantum-harvest-* -type f 2>/dev/null)" = /etc/quantum/credentials/redis-password ]'
holds 'and no user' sh -c '! id quantum-harvest'
[ "$failed" -eq 0 ] || exit 1
