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
	# dpkg names the version that was there after a removal, too: what that stopped is started, what is off stays off.
	start=no
	if [ -z "$2" ] || [ -e "$stopped" ]; then start=yes; fi
	rm -f "$stopped"
	if booted; then
		systemctl daemon-reload || true
		for unit in $(restarted); do
			if [ "$start" = yes ] && [ ! -f "/etc/systemd/system/$unit" ]; then
				deb-systemd-invoke start "$unit" || true
			else
				systemctl try-restart "$unit" || true
			fi
		done
	fi
	;;
abort-upgrade | abort-remove | abort-deconfigure) ;;
*)
	echo "postinst: unknown argument $1" >&2
	exit 1
	;;
esac
