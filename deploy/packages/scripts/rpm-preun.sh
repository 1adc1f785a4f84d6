# $1: how many versions are left afterwards; 0 is a removal.
if [ "$1" -eq 0 ] && command -v systemctl >/dev/null; then
	for unit in $(ours); do
		if booted; then
			systemctl --no-reload disable --now "$unit" || true
		else
			systemctl --no-reload disable "$unit" || true
		fi
	done
fi
