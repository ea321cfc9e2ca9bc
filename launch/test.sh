#!/usr/bin/env bash
# Runs the tests. Further arguments go to pytest: bash launch/test.sh -m "not slow"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt -r requirements-test.txt
exec .venv/bin/python -m pytest "$@"
