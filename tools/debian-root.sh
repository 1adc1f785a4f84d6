#!/bin/sh
# Makes .tools/NAME: a minimal Debian with these packages, from the host's own sources of packages. Installation tests work
# on copies of it. Needs root for a moment of its own (chroot); quick where it is there.
#
#   tools/debian-root.sh [NAME PACKAGE,...]     default: debian-root redis-server
set -eu

cd "$(dirname "$0")/.."
name=${1:-debian-root}
packages=${2:-redis-server}
tools=$(readlink -m .tools)
root=$tools/$name
log=$tools/apt/log/$name.log

[ ! -e "$root/.complete" ] || exit 0

give_up() {
	echo "debian-root: $1" >&2
	exit 1
}

[ "$(id -u)" -eq 0 ] || give_up "making and entering a Debian root needs root: run this as root, or 'unshare -r' where the host allows it"
for need in apt-get apt-config dpkg-deb chroot; do
	command -v "$need" >/dev/null || give_up "$need is not there; on another system than Debian and Ubuntu make $root by hand and create $root/.complete"
done
# shellcheck source=/dev/null
. /etc/os-release
[ "${ID:-}" = debian ] || give_up "the host is ${ID:-unknown} and not Debian: make $root with debootstrap by hand and create $root/.complete"
# The first source of the main archive, as the host has it.
mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
	awk -v suite="$VERSION_CODENAME" '$2 == suite && $3 == "main" { print $1; exit }')
[ -n "$mirror" ] || give_up "no source of packages for $VERSION_CODENAME is configured; run apt-get update first"

mkdir -p "$tools/apt/log"
work=$(mktemp -d "$tools/$name-XXXXXX")
trap 'rm -rf "$work"' EXIT
if command -v debootstrap >/dev/null; then
	debootstrap=$(command -v debootstrap)
else
	(cd "$work" && apt-get -q -o APT::Sandbox::User="" download debootstrap >"$log" 2>&1) || give_up "debootstrap cannot be had; see $log"
	dpkg-deb -x "$work"/debootstrap_*.deb "$work/unpacked"
	DEBOOTSTRAP_DIR=$work/unpacked/usr/share/debootstrap
	export DEBOOTSTRAP_DIR
	debootstrap=$work/unpacked/usr/sbin/debootstrap
fi
echo "debian-root: making a Debian $VERSION_CODENAME in .tools/$name"
sh "$debootstrap" --variant=minbase --include="$packages" --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
	"$VERSION_CODENAME" "$work/root" "$mirror" >"$log" 2>&1 || give_up "debootstrap failed; see $log"
# Neither the packages nor the place they came from are needed again.
rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work/root/etc/apt/sources.list"
touch "$work/root/.complete"
rm -rf "$root"
mv "$work/root" "$root"
