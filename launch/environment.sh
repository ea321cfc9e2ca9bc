# shellcheck shell=bash
# Sourced by the scripts beside it: makes .venv; `install` takes what pip does. PYTHON=...
# chooses the interpreter, 3.11 or newer. With --help a script shows what stands at its
# top, and nothing is made.
set -euo pipefail
if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
  awk '/^#!|^# shellcheck/ { next } !/^#/ { exit } { sub(/^# ?/, ""); print }' "$0"
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python="${PYTHON:-}"
if [[ -z "$python" ]]; then
  for python in python3.12 python3.11 python3 python3.13; do
    recent "$python" && break
  done
fi
if ! recent "$python"; then
  found="$("$python" -V 2>&1)" || found="not an interpreter"
  echo "error: $python is ${found##*: }; set PYTHON to Python 3.11 or newer" >&2
  exit 2
fi

# An environment of another interpreter is made anew.
wanted="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
if [[ ! -x .venv/bin/python ]] ||
  [[ "$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != "$wanted" ]]; then
  rm -rf .venv
  "$python" -m venv .venv
fi

# The accelerator's JAX, where there is an accelerator.
accelerator=()
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  accelerator=("jax[cuda13]")
elif compgen -G "/dev/accel*" >/dev/null || compgen -G "/dev/vfio/[0-9]*" >/dev/null; then
  accelerator=("jax[tpu]")
fi

install() {
  echo "installing into .venv ..."
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    ${accelerator[@]+"${accelerator[@]}"} "$@"
}
