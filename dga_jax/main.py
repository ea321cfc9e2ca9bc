"""Trains a model: python -m dga_jax.main --config=configs/NAME.py --workdir=DIR."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from dga_jax import cli, distributed, workdir
from dga_jax.errors import UserError
from dga_jax.report import write_report
from dga_jax.run import check, open_run
from dga_jax.train import train

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file: configs/NAME.py[:debug][,field=value]."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; a run that is there goes on."
)
flags.mark_flags_as_required(["config", "workdir"])

_DETERMINISTIC_GPU = "--xla_gpu_deterministic_ops=true"


def main(argv: Sequence[str]) -> None:
    """Flags to config to training to report."""
    cli.no_arguments(argv)
    config = _load_config()
    # Orbax and grain log every save and read; what fails they raise as well as log.
    logging.set_verbosity(logging.FATAL)
    if config.deterministic:
        flags_so_far = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags_so_far} {_DETERMINISTIC_GPU}".strip()
    distributed.initialize()
    explicit = {*config.explicit, *config_flags.get_override_values(_flag())}
    parts = check(config, explicit)
    directory = Path(_WORKDIR.value)
    first = jax.process_index() == 0
    with workdir.locked(directory) if first else contextlib.nullcontext():
        distributed.meet("the workdir is there and locked")
        run = open_run(parts, directory)
        finished = run.step >= config.train.steps
        done = f"{directory}: this run is finished, {run.step} steps are done"
        _say(done if finished else run.describe())
        if not finished and not train(run):
            _say("stopped by SIGTERM, all is saved; run the same command to go on")
        elif first:
            write_report(directory)


def _load_config():
    config = _CONFIG.value
    if isinstance(config, ConfigDict):
        return config
    # A file that cannot be loaded leaves a stand-in, which fails when it is read.
    name = config_flags.get_config_filename(_flag())
    raise UserError(f"--config={name}: no such file; see configs/")


def _flag():
    return flags.FLAGS["config"]


def _say(text):
    if jax.process_index() == 0:
        print(text, flush=True)


if __name__ == "__main__":
    cli.run(main)
