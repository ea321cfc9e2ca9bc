#!/usr/bin/env bash
# Builds the documentation as a site in docs/_build; a warning is an error.
#
#   bash launch/docs.sh [ARGUMENTS OF SPHINX-BUILD]
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install --editable '.[docs]'
exec .venv/bin/python -m sphinx --builder=html --fail-on-warning --keep-going \
  --quiet "$@" docs docs/_build
