#!/bin/sh
# Prints the version as packages write it. $1 is what "git describe" says (v1.2.0, v1.2.0-rc.1, v1.2.0-3-gabc), or a
# version of that form already, or nothing: then it is made of time and revision of the last commit.
set -eu
cd "$(dirname "$0")/../.."
case ${1:-} in
'')
	at=$(TZ=UTC0 git log -1 --date=format-local:%Y%m%d%H%M%S --format=%cd 2>/dev/null) || at=
	commit=$(git rev-parse --short=12 HEAD 2>/dev/null) || commit=unknown
	echo "0~git${at:-0}.$commit"
	;;
*)
	# A number of commits behind a tag is later than the tag (+), a candidate is earlier (~).
	printf '%s\n' "$1" | sed -E 's/^v//; s/-([0-9]+)-g([0-9a-f]+)$/+\1.\2/; s/-/~/g'
	;;
esac
