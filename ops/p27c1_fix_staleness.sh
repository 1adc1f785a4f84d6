#!/bin/sh
# The seven steps of the earlier deployment, under its name: harvest deploy does the work. Arguments go to it.
set -eu
exec "${HARVEST:-harvest}" deploy "$@"
