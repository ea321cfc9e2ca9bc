#!/usr/bin/env bash
# Kills a small run a hundred times and compares its numbers with those of one that was
# left alone; an hour on two cores.
#
#   bash launch/soak.sh [WORKDIR] [OPTIONS]
#
#   WORKDIR       where both runs lie (runs/soak)
#   --kills=N     so many (100)
#   --same_mesh   on the same devices always, so that all is equal to the last bit
#   .venv/bin/python -m dga_jax.benchmark.soak --help has the other options
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt
out=runs/soak
if [[ $# -gt 0 && $1 != --* ]]; then out=$1; shift; fi
exec .venv/bin/python -m dga_jax.benchmark.soak --workdir="$out" "$@"
