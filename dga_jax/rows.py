"""The rows that a train step read, and their text.

    python -m dga_jax.rows --workdir=runs/mine --step=700 --limit=4

No accelerator is needed; the run may be going on.
"""

from collections.abc import Sequence

import jax
from absl import flags

from dga_jax import cli
from dga_jax.data.row_text import row_lines, visible
from dga_jax.errors import UserError
from dga_jax.training import recorded, workdir
from dga_jax.training.replay import drawn

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
_STEP = flags.DEFINE_integer("step", None, "The train step.")
_LIMIT = flags.DEFINE_integer(
    "limit", None, "Show no more than so many rows.", lower_bound=0
)
_STORE = flags.DEFINE_string("store", "", "Where its store lies now, if it was moved.")
flags.mark_flags_as_required(["workdir", "step"])


def main(argv: Sequence[str]) -> None:
    """Prints number, domain, row in the store and text of each row."""
    cli.no_arguments(argv)
    jax.config.update("jax_platforms", "cpu")  # the others are busy with the run
    directory = workdir.of_flag(_WORKDIR.value)
    run = recorded.read(directory)
    if run is None:
        raise UserError(f"--workdir={directory}: not the workdir of a run")
    store = run.open_store(_STORE.value)
    draw = drawn(run, store, _STEP.value)
    names = store.domains(run.config.data.level).names
    print(
        f"{directory}, step {_STEP.value}: {len(draw.rows)} rows of {store.path}",
        flush=True,
    )
    ids = draw.rows[: _LIMIT.value]
    tokenizer = store.tokenizer()
    for i, row in enumerate(store.read("train", ids)):
        name = visible(names[draw.domains[i]])
        print(f"\nrow {i}, {name}, train row {ids[i]} of the store")
        print("\n".join(f"  | {line}".rstrip() for line in row_lines(tokenizer, row)))


if __name__ == "__main__":
    cli.run(main)
