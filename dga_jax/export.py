"""A run as a directory that `transformers`, vLLM and llama.cpp's converter open.

    python -m dga_jax.export --workdir=runs/mine --output=mine-hf

The run is only read: its parameters one by one, without the optimizer. No PyTorch and
no `transformers` is needed.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from dga_jax import cli, files
from dga_jax.training import workdir
from dga_jax.training.to_huggingface import DTYPES, export


def main(argv: Sequence[str]) -> None:
    """Exports the run that the flags name."""
    cli.no_arguments(argv)
    began = time.monotonic()
    output = files.local_path("--output", _OUTPUT.value, "give a directory here")
    step = export(
        workdir.of_flag(_WORKDIR.value),
        Path(os.path.abspath(output)),
        step=_STEP.value,
        dtype=_DTYPE.value,
    )
    size = sum(path.stat().st_size for path in output.iterdir())
    print(
        f"{output}: step {step} of {_WORKDIR.value}, {size / 1e6:,.1f} MB, in"
        f" {time.monotonic() - began:.1f} s"
    )


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string(
        "workdir", None, "Directory of the run.", required=True
    )
    _OUTPUT = flags.DEFINE_string(
        "output", None, "The directory to make; must not exist.", required=True
    )
    _STEP = flags.DEFINE_integer(
        "step", None, "Of the checkpoint; the newest unless given.", lower_bound=0
    )
    _DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "Of the tensors.")
    cli.run(main)
