#!/usr/bin/env bash
# Trains a small model on the text that comes with the code. Further arguments go to
# the program: bash launch/quickstart.sh --config.train.steps=100
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt
exec .venv/bin/python -m dga_jax.main \
  --config=configs/quickstart.py --workdir=runs/quickstart "$@"
