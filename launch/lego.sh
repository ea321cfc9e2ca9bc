#!/usr/bin/env bash
# LEGO, three steps of reasoning the target: on the target's skill alone, evenly over the
# skills it needs, and DGA over all five; see docs/sources/lego.md. Goes on where it was.
#   SEEDS="0 1 2 3 4" STEPS=4000 launch/lego.sh [WORKDIR] [--config.FIELD=VALUE ...]
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt
out=runs/lego
if [[ $# -gt 0 && $1 != --* ]]; then out=$1; shift; fi
mkdir -p "$out"

text=lego:skills=1-5/documents=40000
if [[ ! -e $out/tokenizer.json ]]; then
  .venv/bin/python -m dga_jax.prepare tokenizer --generic=lego:documents=2000/seed=9 \
    --vocab_size=512 --output="$out/tokenizer.json"
fi
if [[ ! -e $out/store ]]; then
  .venv/bin/python -m dga_jax.prepare --generic=$text --target=lego:skills=3/seed=1 \
    --tokenizer="$out/tokenizer.json" --seq_len=33 --output="$out/store"
fi
for seed in ${SEEDS:-0 1 2 3 4}; do
  while read -r name mixer weights; do
    .venv/bin/python -m dga_jax.main --config=configs/lego.py --config.data.store="$out/store" \
      --config.seed="$seed" --config.train.steps="${STEPS:-4000}" \
      --config.mixer.name="$mixer" --config.mixer.weights="$weights" "$@" \
      --workdir="$out/$name-$seed" < /dev/null
  done <<END
target static skill_3=1
needed static skill_1=.3333,skill_2=.3333,skill_3=.3334
dga dga uniform
END
done

# shellcheck disable=SC2086 # several seeds
.venv/bin/python - "$out" ${SEEDS:-0 1 2 3 4} <<'END'
import sys

import numpy as np

from dga_jax.logs.metrics import history, read_metrics

out, *seeds = sys.argv[1:]
print("seed  target alone ends at  steps to it: needed, dga  dga: last weights of 1 to 5")
for seed in seeds:
    runs = {
        name: read_metrics(f"{out}/{name}-{seed}") for name in ("target", "needed", "dga")
    }
    losses = {name: history(lines, "eval/target/loss") for name, lines in runs.items()}
    end = losses["target"][1][-1]
    steps = []
    for name in ("needed", "dga"):
        at, values = losses[name]
        below = np.flatnonzero(values <= end)
        steps.append(f"{at[below[0]]:.0f}" if len(below) else "-")
    weights = [
        history(runs["dga"], f"mixture/weight/skill_{i}")[1][-1] for i in range(1, 6)
    ]
    shown = " ".join(f"{weight:.3f}" for weight in weights)
    print(f"{seed:4}  {end:20.4f}  {', '.join(steps):>24}  {shown}")
END
