#!/bin/sh
# Runs every fuzz target for a while each: tools/fuzz.sh 5000x ./...
set -eu

go=${GO:-go}
fuzztime=$1
shift

cd "$(dirname "$0")/.."
$go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' "$@" | while read -r package dir; do
	[ -n "$package" ] || continue
	cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort | while read -r target; do
		echo "fuzz: $package $target"
		$go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$package" </dev/null >"${TMPDIR:-/tmp}/fuzz.$$" 2>&1 || {
			cat "${TMPDIR:-/tmp}/fuzz.$$"
			rm -f "${TMPDIR:-/tmp}/fuzz.$$"
			exit 1
		}
		rm -f "${TMPDIR:-/tmp}/fuzz.$$"
	done
done
