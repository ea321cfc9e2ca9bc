"""How a run's model goes on with a text.

    python -m dga_jax.generate --workdir=runs/mine --prompt="The list"

The text goes to standard output as it comes, and to standard error what it is of. The
prompt begins a document, as in training.
"""

import sys
from collections.abc import Sequence

from absl import flags

from dga_jax import cli
from dga_jax.training import trained, workdir
from dga_jax.training.continuation import go_on


def main(argv: Sequence[str]) -> None:
    """Prints the prompt and what follows."""
    cli.no_arguments(argv)
    model = trained.load(workdir.of_flag(_WORKDIR.value), _STEP.value, _STORE.value)
    print(f"{model.directory}, step {model.step}", file=sys.stderr, flush=True)
    said = go_on(
        model,
        _PROMPT.value,
        _MAX_TOKENS.value,
        _TEMPERATURE.value,
        _TOP_P.value,
        _SEED.value,
        sys.stdout,
    )
    print(said, file=sys.stderr)


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
    _PROMPT = flags.DEFINE_string("prompt", "", "The text to go on with.")
    _STEP = flags.DEFINE_integer(
        "step", None, "Of a checkpoint; the newest if not given."
    )
    _MAX_TOKENS = flags.DEFINE_integer("max_tokens", 200, "At most.", lower_bound=1)
    _TEMPERATURE = flags.DEFINE_float(
        "temperature", 0.8, "0: always the likeliest token.", lower_bound=0
    )
    _TOP_P = flags.DEFINE_float(
        "top_p",
        0.95,
        "Draw from the likeliest tokens that have so much of the probability.",
        lower_bound=0,
        upper_bound=1,
    )
    _SEED = flags.DEFINE_integer(
        "seed", 0, "Of what is drawn.", lower_bound=0, upper_bound=2**32 - 1
    )
    _STORE = flags.DEFINE_string(
        "store", "", "Where its store lies now, if it was moved."
    )
    flags.mark_flags_as_required(["workdir"])
    cli.run(main)
