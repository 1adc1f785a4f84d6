if booted; then
	systemctl daemon-reload || true
	if [ "$1" -gt 0 ]; then
		for unit in $(restarted); do systemctl try-restart "$unit" || true; done
	fi
fi
# There is no purge here: what somebody edited, the series and the user stay, as is the custom.
if [ "$1" -eq 0 ]; then
	remove_env unchanged
	rm -rf /var/lib/quantum-harvest-package
fi
