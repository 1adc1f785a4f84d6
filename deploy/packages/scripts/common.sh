# Common to all scripts of the packages; the builder puts it in front of each of them.

user=quantum-harvest
etc=/etc/quantum
shipped=/usr/share/quantum-harvest/env
# What the package itself put below /etc/quantum, with the checksum it had then.
made=/var/lib/quantum-harvest-package/env.sha256
# Names what of user and group the package made: what was there before it stays after it.
created=/var/lib/quantum-harvest-package/created
# Says that a removal stopped the services.
stopped=/var/lib/quantum-harvest-package/stopped
services="quantum-harvest-proposal.service quantum-harvest-metrics-exporter.service quantum-harvest-monitor.service"
files="harvest-proposal.env harvest-metrics-exporter.env harvest-monitor.env"

booted() { [ -d /run/systemd/system ]; }

checksum() { sha256sum "$1" | cut -d' ' -f1; }

# recorded NAME: the checksum under which the package put the file there; nothing where it did not.
recorded() {
	[ ! -f "$made" ] || awk -v name="$1" '$2 == name { print $1 }' "$made"
}

record() {
	mkdir -p -m 0755 "${made%/*}"
	{
		[ ! -f "$made" ] || awk -v name="$1" '$2 != name' "$made"
		printf '%s %s\n' "$(checksum "$etc/$1")" "$1"
	} >"$made.new"
	mv "$made.new" "$made"
}

# place_env: a file that nobody has is put there; one that the package put there and nobody changed is renewed; any
# other is left as it is, without a question.
place_env() {
	[ -d "$etc" ] || mkdir -m 0755 "$etc"
	for name in $files; do
		if [ -e "$etc/$name" ] || [ -L "$etc/$name" ]; then
			was=$(recorded "$name")
			[ -n "$was" ] && [ "$was" = "$(checksum "$etc/$name")" ] || continue
			! cmp -s "$shipped/$name" "$etc/$name" || continue
		fi
		install -m 0640 -o root -g "$user" "$shipped/$name" "$etc/$name.new"
		mv "$etc/$name.new" "$etc/$name"
		record "$name"
	done
	[ -d "$etc/credentials" ] || mkdir -m 0700 "$etc/credentials"
}

# earlier_services: a unit of the same name was put there by hand, or an env file that is not ours. Then nothing is
# started: two publishers of different make would write the same keys.
earlier_services() {
	for unit in $services; do
		[ ! -f "/etc/systemd/system/$unit" ] || return 0
	done
	for name in $files; do
		[ ! -e "$etc/$name" ] || [ -n "$(recorded "$name")" ] || return 0
	done
	return 1
}

# ours: the units that nobody replaced by one of their own below /etc/systemd/system.
ours() {
	for unit in $services; do
		[ -f "/etc/systemd/system/$unit" ] || echo "$unit"
	done
}

# restarted: the units that run the program of the package, wherever they lie: harvest deploy puts its own below
# /etc/systemd/system. One there that runs another program, such as an earlier publisher, has nothing to do with an upgrade.
restarted() {
	for unit in $services; do
		if [ ! -f "/etc/systemd/system/$unit" ] ||
			grep -Eq '^ExecStart=[-@:+!]*/usr/bin/harvest([[:space:]]|$)' "/etc/systemd/system/$unit"; then
			echo "$unit"
		fi
	done
}

add_user() {
	lacking=
	getent passwd "$user" >/dev/null || lacking=user
	getent group "$user" >/dev/null || lacking="$lacking group"
	if ! getent group "$user" >/dev/null || ! getent passwd "$user" >/dev/null; then
		if command -v systemd-sysusers >/dev/null; then
			systemd-sysusers quantum-harvest.conf
		elif command -v useradd >/dev/null; then
			getent group "$user" >/dev/null || groupadd --system "$user"
			useradd --system --gid "$user" --home-dir /var/lib/quantum-harvest --no-create-home \
				--shell /usr/sbin/nologin --comment "Quantum Harvest" "$user"
		else
			adduser --system --group --home /var/lib/quantum-harvest --no-create-home --gecos "Quantum Harvest" "$user"
		fi
		mkdir -p -m 0755 "${created%/*}"
		for what in $lacking; do echo "$what"; done >>"$created"
	fi
}

made_by_us() { [ -f "$created" ] && grep -qx "$1" "$created"; }

# remove_user: one that was there before the package stays. One that something still runs as, such as a unit of the operator's
# own, cannot be removed. It stays, and the removal goes on.
remove_user() {
	if made_by_us user && getent passwd "$user" >/dev/null; then
		# userdel takes the group of the same name along where it is the user's first one.
		made_by_us group || usermod -g nogroup "$user" || { echo "quantum-harvest: the user $user stays, with the group of before"; return 0; }
		if command -v userdel >/dev/null; then
			userdel "$user" || { echo "quantum-harvest: the user $user stays"; return 0; }
		else
			deluser --system --quiet "$user" || { echo "quantum-harvest: the user $user stays"; return 0; }
		fi
	fi
	if made_by_us group && getent group "$user" >/dev/null; then
		if command -v groupdel >/dev/null; then
			groupdel "$user" || echo "quantum-harvest: the group $user stays"
		else
			delgroup --system --quiet "$user" || echo "quantum-harvest: the group $user stays"
		fi
	fi
}

# remove_env MODE: takes away what the package made; with "unchanged" only what nobody edited since.
remove_env() {
	for name in $files; do
		was=$(recorded "$name")
		[ -n "$was" ] && [ -f "$etc/$name" ] || continue
		[ "$1" = all ] || [ "$was" = "$(checksum "$etc/$name")" ] || continue
		rm -f "$etc/$name"
	done
	# Passwords are the operator's; folders go where nothing is left in them.
	rmdir "$etc/credentials" 2>/dev/null || true
	rmdir "$etc" 2>/dev/null || true
}

first_steps() {
	unread=
	for name in $files; do
		if [ -e "$etc/$name" ] && [ -z "$(recorded "$name")" ]; then unread="$unread $etc/$name"; fi
	done
	cat <<-TEXT
		quantum-harvest: the services are installed and not started, because earlier ones are there:
	TEXT
	for unit in $services; do
		if [ -f "/etc/systemd/system/$unit" ]; then echo "    /etc/systemd/system/$unit, which goes before the unit of the package"; fi
	done
	for path in $unread; do echo "    $path"; done
	cat <<-TEXT
		Both would write the same keys. To take over step by step, with every step checked and a way back:
		    harvest deploy --dry-run
		By hand: stop the earlier services, move their units away, let $user read the env files, and start ours:
	TEXT
	if [ -n "$unread" ]; then echo "    chgrp $user$unread && chmod 0640$unread"; fi
	echo "    systemctl daemon-reload && systemctl enable --now $services"
}
