#!/usr/bin/env bash
# Kills a small run a hundred times and compares its numbers with those of one that was
# left alone; an hour on two cores. Further arguments go to the program:
#   bash launch/soak.sh runs/soak --kills=10 --same_mesh
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt
out=runs/soak
if [[ $# -gt 0 && $1 != --* ]]; then out=$1; shift; fi
exec .venv/bin/python -m dga_jax.benchmark.soak --workdir="$out" "$@"
