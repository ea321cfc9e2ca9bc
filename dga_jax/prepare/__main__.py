"""Turns text into a store, and looks at stores.

    python -m dga_jax.prepare --generic=... --target=... --output=STORE    makes one
    python -m dga_jax.prepare tokenizer ...        a tokenizer of your own text
    python -m dga_jax.prepare inspect STORE        what a store holds, and some rows
    python -m dga_jax.prepare verify STORE         rereads it all
    python -m dga_jax.prepare describe STORE       what its domains are about
    python -m dga_jax.prepare basis STORE ...      a basis of reference sets

Each has a --help of its own.
"""

import importlib
import sys
from collections.abc import Callable, Sequence

from absl import flags

from dga_jax import cli

COMMANDS = ("tokenizer", "inspect", "verify", "describe", "basis")


def _command() -> Callable[[Sequence[str]], object]:
    """The `main` of the command that is asked for; its module defines the flags."""
    # The names of domains and files are printed, whatever the terminal can show.
    sys.stdout.reconfigure(errors="backslashreplace")
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        del sys.argv[1]
    elif name and not name.startswith("-"):
        cli.fail(
            f"no command {name!r}, only {', '.join(COMMANDS)}; flags begin with --, and"
            " a glob needs quotes"
        )
    else:
        name = "make"
    module = importlib.import_module(f"dga_jax.prepare.commands.{name}")
    flags.adopt_module_key_flags(module)  # --help shows those of this module alone
    return module.main


if __name__ == "__main__":
    cli.run(_command())
