"""Turns text into a store, and looks at stores.

    python -m dga_jax.prepare --generic=... --target=... --output=STORE    makes one
    python -m dga_jax.prepare describe STORE       what its domains are about
    python -m dga_jax.prepare basis STORE ...      a basis of reference sets

Each has a --help of its own.
"""

import importlib
import sys

from dga_jax import cli

COMMANDS = ("describe", "basis")


def _command():
    """The `main` of the command that is asked for; its module defines the flags."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        return importlib.import_module("dga_jax.prepare.make").main
    del sys.argv[1]
    return importlib.import_module(f"dga_jax.prepare.{name}").main


if __name__ == "__main__":
    cli.run(_command())
