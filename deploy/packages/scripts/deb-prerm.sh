# An upgrade leaves the services running on the old program and restarts them at its end, so that the gap is short.
# A unit that somebody put below /etc/systemd/system is not ours to stop.
if [ "$1" = remove ] && booted; then
	for unit in $(ours); do deb-systemd-invoke stop "$unit" || true; done
fi
