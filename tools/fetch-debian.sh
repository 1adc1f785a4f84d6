#!/bin/sh
# Brings the servers that the tests talk to into .tools/bin. What the host has already is left alone and used as it is;
# the rest is downloaded as Debian packages and unpacked below .tools, without root, without installing anything and
# without starting a service. Quick where everything is there.
#
# TOOLS_FORCE_UNPACK=1 ignores the programs of the host.
set -eu

cd "$(dirname "$0")/.."
tools=$PWD/.tools
bin=$tools/bin
root=$tools/root

# program, the packages it is unpacked from (comma separated), and a pattern that what it says of its version must match.
programs='
redis-server redis-server,redis-tools v=([7-9]|[1-9][0-9])\.
redis-cli    redis-tools              redis-cli ([7-9]|[1-9][0-9])\.
prometheus   prometheus               version ([2-9]|[1-9][0-9])\.
promtool     prometheus               version ([2-9]|[1-9][0-9])\.
prometheus-alertmanager prometheus-alertmanager version 0\.(2[0-9]|[3-9][0-9])\.
amtool       prometheus-alertmanager  version 0\.(2[0-9]|[3-9][0-9])\.
tmux         tmux                     tmux ([3-9]|[1-9][0-9])\.
'

# version PATH: what the program says of its version.
version() {
	case ${1##*/} in
	tmux) "$1" -V ;;
	*) "$1" --version ;;
	esac 2>&1
}

# works PATH PATTERN: the program runs and is new enough.
works() {
	version "$1" | grep -Eq "$2"
}

# on_host NAME: the path of a program of the host, not one of ours.
on_host() {
	[ -z "${TOOLS_FORCE_UNPACK:-}" ] || return 1
	(
		PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -vxF "$bin" | paste -sd: -)
		command -v "$1"
	)
}

# missing prints the table rows of the programs that are neither on the host nor unpacked.
missing() {
	printf '%s\n' "$programs" | while read -r name packages pattern; do
		[ -n "$name" ] || continue
		if path=$(on_host "$name") && works "$path" "$pattern"; then
			# One unpacked earlier must not hide it.
			rm -f "$bin/$name"
		elif [ ! -x "$bin/$name" ] || ! works "$bin/$name" "$pattern"; then
			printf '%s %s %s\n' "$name" "$packages" "$pattern"
		fi
	done
}

# names COLUMN: the words of a column of the rows on standard input, each once, on one line.
names() {
	awk -v column="$1" '{ print $column }' | tr ',' '\n' | sort -u | paste -sd' ' -
}

# give_up REASON: says what is missing and how to get it by hand.
give_up() {
	{
		echo "tools: $1"
		echo "tools: missing: $(printf '%s\n' "$rows" | names 1)"
		echo "tools: install them so that they are on PATH (Redis 7, Prometheus 2.42, Alertmanager 0.2x, tmux 3 or newer);"
		echo "tools: on Debian and Ubuntu: apt-get install $(printf '%s\n' "$rows" | names 2)"
	} >&2
	exit 1
}

# apt TOOL ARGS...: apt with its state and cache below .tools, the host's sources, keys and list of installed packages.
apt() {
	tool=$1
	shift
	"$tool" -q -o Dir::State="$tools/apt/state" -o Dir::State::status="$dpkg_status" -o Dir::Cache="$tools/apt/cache" \
		-o Dir::Log="$tools/apt/log" -o Debug::NoLocking=true -o APT::Sandbox::User="" "$@"
}

# unpack PACKAGE...: downloads packages and unpacks those that are not unpacked yet.
unpack() {
	mkdir -p "$tools/apt/debs" "$root"
	for package in "$@"; do
		[ ! -e "$tools/apt/unpacked/$package" ] || continue
		(cd "$tools/apt/debs" && rm -f ./*.deb && apt apt-get download "$package" >>"$log" 2>&1) || return 1
		dpkg-deb -x "$tools"/apt/debs/*.deb "$root" || return 1
		rm -f "$tools"/apt/debs/*.deb
		: >"$tools/apt/unpacked/$package"
	done
}

# library_dirs: the folders below root that hold shared libraries, relative to it.
library_dirs() {
	(cd "$root" && find . \( -type f -o -type l \) -path '*/lib/*' -name '*.so*' | sed 's|/[^/]*$||; s|^\./||' | sort -u)
}

# library_path: the same as a search path.
library_path() {
	library_dirs | sed "s|^|$root/|" | paste -sd: -
}

# lacking PROGRAM: the shared libraries that a program does not find.
lacking() {
	LD_LIBRARY_PATH=$(library_path) ldd "$root/usr/bin/$1" 2>/dev/null | awk '/not found/ { print $1 }' | sort -u
}

# add_libraries PROGRAM PACKAGES: unpacks the libraries that the program lacks, from what its packages depend on, level by
# level. The C library is always the host's.
add_libraries() {
	level=$(printf '%s' "$2" | tr ',' ' ')
	for _ in 1 2 3 4 5; do
		[ -n "$(lacking "$1")" ] || return 0
		# shellcheck disable=SC2086 # a list of package names
		level=$(apt apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances $level |
			awk '/Depends:/ && $2 ~ /^(lib|lua-)/ && $2 !~ /^(libc6|libgcc-s1|libstdc)/ { print $2 }' | sort -u)
		[ -n "$level" ] || break
		# shellcheck disable=SC2086
		unpack $level || return 1
	done
	[ -z "$(lacking "$1")" ]
}

# Debian's Alertmanager reads its templates from a folder below /usr that only an installed package has. The unpacked copy
# is made to read them through a descriptor, which its wrapper opens: a path of the same length.
templates=/usr/share/prometheus/alertmanager
through=/proc/self////////////////////fd/9

relocate() {
	[ "$1" = prometheus-alertmanager ] || return 0
	# shellcheck disable=SC2016 # variables of perl
	FROM=$templates TO=$through perl -pi -e 's/\Q$ENV{FROM}\E(?!\/)/$ENV{TO}/g' "$root/usr/bin/$1"
}

# wrap PROGRAM: a program in .tools/bin that runs the unpacked one with its libraries; the folder may be moved.
wrap() {
	mkdir -p "$bin"
	{
		echo '#!/bin/sh'
		# shellcheck disable=SC2016 # the wrapper expands these, not this script
		echo 'root=$(dirname "$(readlink -f "$0")")/../root'
		# shellcheck disable=SC2016
		dirs=$(library_dirs | sed 's|^|$root/|' | paste -sd: -)
		# shellcheck disable=SC2016
		[ -z "$dirs" ] || echo "export LD_LIBRARY_PATH=\"$dirs"'${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"'
		# shellcheck disable=SC2016
		[ "$1" != prometheus-alertmanager ] || echo "exec 9<\"\$root$templates\""
		# shellcheck disable=SC2016
		printf 'exec "$root/usr/bin/%s" "$@"\n' "$1"
	} >"$bin/$1.new"
	chmod 755 "$bin/$1.new"
	mv "$bin/$1.new" "$bin/$1"
}

rows=$(missing)
[ -n "$rows" ] || exit 0

for need in apt-get apt-cache dpkg-deb ldd perl; do
	command -v "$need" >/dev/null || give_up "$need is not there, so nothing can be downloaded"
done
dpkg_status=/var/lib/dpkg/status
[ -r "$dpkg_status" ] || dpkg_status=/dev/null
log=$tools/apt/log/fetch.log
# Begun anew: an unpacking that was cut short leaves nothing to trust.
rm -rf "$tools/apt/unpacked" "$root"
mkdir -p "$tools/apt/state/lists/partial" "$tools/apt/cache/archives/partial" "$tools/apt/log" "$tools/apt/unpacked" "$bin"
rows=$(TOOLS_FORCE_UNPACK=${TOOLS_FORCE_UNPACK:-} missing)

echo "tools: bringing $(printf '%s\n' "$rows" | names 1) into .tools"
apt apt-get update >"$log" 2>&1 || give_up "the package lists cannot be read; see .tools/apt/log/fetch.log"
printf '%s\n' "$rows" | while read -r name packages pattern; do
	# shellcheck disable=SC2046 # a list of package names
	unpack $(printf '%s' "$packages" | tr ',' ' ') || exit 1
	add_libraries "$name" "$packages" || exit 1
done || give_up "a package or a library it needs cannot be had; see .tools/apt/log/fetch.log"
printf '%s\n' "$rows" | while read -r name packages pattern; do
	relocate "$name"
	wrap "$name"
done

rows=$(missing)
[ -z "$rows" ] || give_up "what was unpacked does not run"
for program in "$bin"/*; do
	echo "tools: $(version "$program" | head -n 1)"
done
