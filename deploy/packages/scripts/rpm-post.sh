# $1: how many versions are there afterwards; 1 is a first installation.
add_user
earlier=no
if earlier_services; then earlier=yes; fi
place_env
if [ "$1" -eq 1 ]; then
	if [ "$earlier" = yes ]; then
		first_steps
	elif command -v systemctl >/dev/null; then
		# Whether a package's services are switched on is for the presets of the distribution to say.
		# shellcheck disable=SC2086 # a list of units
		systemctl --no-reload preset $services || true
	fi
fi
if booted; then systemctl daemon-reload || true; fi
