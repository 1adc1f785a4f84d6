if [ "$1" = purge ]; then
	if command -v deb-systemd-helper >/dev/null; then
		for unit in $(ours); do
			deb-systemd-helper purge "$unit" >/dev/null || true
			deb-systemd-helper unmask "$unit" >/dev/null || true
		done
	fi
	remove_env all
	remove_user
	rm -rf /var/lib/quantum-harvest /var/lib/quantum-harvest-proposal /var/lib/quantum-harvest-package
elif [ "$1" = remove ]; then
	if [ -d "${stopped%/*}" ]; then : >"$stopped"; fi
	if command -v deb-systemd-helper >/dev/null; then
		for unit in $(ours); do deb-systemd-helper mask "$unit" >/dev/null || true; done
	fi
fi
if booted; then systemctl daemon-reload || true; fi
