"""Turns text into a store: `python -m dga_jax.prepare --help`."""

import pathlib
import shlex
import signal
import sys
from collections.abc import Sequence

import tqdm
from absl import flags

from dga_jax import cli
from dga_jax.data.build import prepare_store
from dga_jax.data.sources import expand
from dga_jax.data.tokenizer import load_tokenizer
from dga_jax.errors import UserError
from dga_jax.prepare import summary

_GENERIC = flags.DEFINE_multi_string(
    "generic",
    [],
    "Quoted globs of the corpus to train on: JSON lines, plain, .gz, .xz or .zst, with"
    " fields 'text' and 'domain' (without it, the file's name up to its first dot)."
    " Several are separated by commas, or by repeating the flag.",
)
_TARGET = flags.DEFINE_multi_string(
    "target", [], "The same for the target, which steers the mixture."
)
_TARGET_EVAL = flags.DEFINE_multi_string(
    "target_eval",
    [],
    "The same for the part of the target it is evaluated on; without it, every fifth"
    " document of --target is kept for that.",
)
_TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "'bytes', or the path of a tokenizer.json.", required=True
)
_SEQ_LEN = flags.DEFINE_integer(
    "seq_len", None, "Tokens that a row predicts.", lower_bound=1, required=True
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The store to make; must not exist.", required=True
)
_QUIET_SECONDS = 30  # between lines of progress where nobody watches


def main(argv: Sequence[str]) -> None:
    """Prepares the store that the flags describe."""
    if len(argv) > 1:
        raise UserError(f"unexpected {shlex.join(argv[1:])}; put globs into quotes")
    for flag in (_GENERIC, _TARGET):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing. Run with --help for the flags")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up as on Ctrl-C
    generic, target, target_eval = (
        expand(flag.value) for flag in (_GENERIC, _TARGET, _TARGET_EVAL)
    )
    size = sum(path.stat().st_size for path in [*generic, *target, *target_eval])
    interval = 0.1 if sys.stderr.isatty() else _QUIET_SECONDS
    bar = tqdm.tqdm(total=size, unit="B", unit_scale=True, mininterval=interval)
    output = pathlib.Path(_OUTPUT.value)
    try:
        with bar:
            parts = prepare_store(
                generic=generic,
                target=target,
                target_eval=target_eval,
                tokenizer=load_tokenizer(_TOKENIZER.value),
                seq_len=_SEQ_LEN.value,
                output=output,
                on_bytes=bar.update,
            )
    except FileExistsError as error:
        raise UserError(f"{error}; remove it or choose another --output") from error
    _report(parts, output)


def _report(parts, output: pathlib.Path) -> None:
    print(summary.table(parts))
    blank = sum(part.blank for part in parts)
    if blank:
        print(f"{blank:,} documents without text were left out.")
    print(f"\nThe store is {output}. To train on it:\n")
    print(
        "  python -m dga_jax.main --config=configs/quickstart.py"
        f" --config.data.store={shlex.quote(str(output))}"
        f" --workdir={shlex.quote(f'runs/{output.name}')}"
    )


if __name__ == "__main__":
    cli.run(main)
