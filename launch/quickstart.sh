#!/usr/bin/env bash
# Trains a small model on the text that comes with the code, and installs before into .venv
# what it needs. Kill it whenever you like: the same command goes on where it was.
#
#   bash launch/quickstart.sh [--config.FIELD=VALUE ...]
#
#   --config.train.steps=100   any field of docs/config.md, or flag of dga_jax.main;
#                              .venv/bin/python -m dga_jax.main --help lists them
#   --workdir=DIR              where the run lies (runs/quickstart)
#   PYTHON=python3.12          the interpreter, 3.11 or newer
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt
exec .venv/bin/python -m dga_jax.main \
  --config=configs/quickstart.py --workdir=runs/quickstart "$@"
