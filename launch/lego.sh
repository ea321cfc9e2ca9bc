#!/usr/bin/env bash
# LEGO, three steps of reasoning the target: on the target's skill alone, evenly over the
# skills it needs, and DGA over all five; see docs/sources/lego.md. Goes on where it was.
#   SEEDS="0 1 2 3 4" STEPS=2000 launch/lego.sh [WORKDIR] [--config.FIELD=VALUE ...]
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt
out=runs/lego
if [[ $# -gt 0 && $1 != --* ]]; then out=$1; shift; fi
mkdir -p "$out"

text=lego:skills=1-5/ordered=1/documents=20000
if [[ ! -e $out/tokenizer.json ]]; then
  .venv/bin/python -m dga_jax.prepare tokenizer --generic=lego:documents=2000/seed=9 \
    --vocab_size=512 --output="$out/tokenizer.json"
fi
if [[ ! -e $out/store ]]; then
  .venv/bin/python -m dga_jax.prepare --generic=$text --target=lego:skills=3/ordered=1/seed=1 \
    --tokenizer="$out/tokenizer.json" --seq_len=33 --output="$out/store"
fi
for seed in ${SEEDS:-0 1 2 3 4}; do
  while read -r name mixer weights shrink floor; do
    .venv/bin/python -m dga_jax.main --config=configs/lego.py --config.data.store="$out/store" \
      --config.seed="$seed" --config.train.steps="${STEPS:-2000}" \
      --config.mixer.name="$mixer" --config.mixer.weights="$weights" \
      --config.mixer.shrink="$shrink" --config.mixer.floor="$floor" "$@" \
      --workdir="$out/$name-$seed" < /dev/null
  done <<END
target static skill_3=1 false 0
needed static skill_1=.3333,skill_2=.3333,skill_3=.3334 false 0
dga dga uniform true .1
END
done

# shellcheck disable=SC2086 # several seeds
.venv/bin/python - "$out" ${SEEDS:-0 1 2 3 4} <<'END'
import sys
from pathlib import Path

import numpy as np

from dga_jax.logs.metrics import history, read_metrics

out, *seeds = sys.argv[1:]
names = ("target", "needed", "dga")
print("      loss of the target at the end   steps to what target ends at, to .01   dga:")
print("seed  target  needed  dga             target, needed, dga" + 21 * " " + "weights of 1 to 5")
for seed in seeds:
    runs = {}
    for name in names:
        run = Path(f"{out}/{name}-{seed}")
        runs[name] = read_metrics(run) if run.exists() else []
    losses = {name: history(lines, "eval/target/loss") for name, lines in runs.items()}
    ends = {name: values[-1] for name, (_, values) in losses.items() if len(values)}
    reached = []
    for end in (ends.get("target", -1), 0.01):
        steps = []
        for at, values in losses.values():
            below = np.flatnonzero(values <= end)
            steps.append(f"{at[below[0]]:.0f}" if len(below) else "-")
        reached.append(", ".join(steps))
    shown = "  ".join(f"{abs(ends[name]):.4f}" if name in ends else "-     " for name in names)
    weights = [history(runs["dga"], f"mixture/weight/skill_{i}")[1] for i in range(1, 6)]
    last = " ".join(f"{w[-1]:.3f}" for w in weights if len(w))
    print(f"{seed:4}  {shown}          {reached[0]:>18}; {reached[1]:18}  {last}")
END
