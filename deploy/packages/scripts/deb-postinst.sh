case "$1" in
configure)
	add_user
	earlier=no
	if earlier_services; then earlier=yes; fi
	place_env
	if [ "$earlier" = yes ] && [ -z "$2" ]; then
		first_steps
		exit 0
	fi
	# An administrator who switched a service off finds it off after an upgrade, too: deb-systemd-helper remembers.
	if command -v deb-systemd-helper >/dev/null; then
		for unit in $services; do
			deb-systemd-helper unmask "$unit" >/dev/null || true
			if [ "$earlier" = no ] && deb-systemd-helper --quiet was-enabled "$unit"; then
				deb-systemd-helper enable "$unit" >/dev/null || true
			else
				deb-systemd-helper update-state "$unit" >/dev/null || true
			fi
		done
	fi
	if booted; then
		systemctl daemon-reload || true
		if [ -z "$2" ]; then
			# shellcheck disable=SC2086 # a list of units
			deb-systemd-invoke start $services || true
		else
			for unit in $(ours); do systemctl try-restart "$unit" || true; done
		fi
	fi
	;;
abort-upgrade | abort-remove | abort-deconfigure) ;;
*)
	echo "postinst: unknown argument $1" >&2
	exit 1
	;;
esac
