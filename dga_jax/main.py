"""Trains a model: python -m dga_jax.main --config=configs/NAME.py --workdir=DIR."""

import signal
from collections.abc import Sequence

import jax
from absl import flags
from ml_collections import config_flags

from dga_jax import cli
from dga_jax.errors import ExitStatus
from dga_jax.training import distributed, fields, workdir
from dga_jax.training.loop import train
from dga_jax.training.setup import check, open_run, start_jax

config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file: configs/NAME.py[:debug][,FIELD=VALUE]. A flag a field: "
    f"--config.FIELD=VALUE. The fields:\n{fields.listing()}",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; a run that is there goes on."
)
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: Sequence[str]) -> ExitStatus:
    """Flags to config to training to report."""
    cli.no_arguments(argv)
    directory = workdir.of_flag(_WORKDIR.value)
    config, explicit = cli.load_config("config")
    start_jax(config)
    with distributed.together():
        if joined := distributed.joined():
            _say(joined)
        distributed.check_same({"--workdir": str(directory)})
        parts = check(config, explicit, directory)
        with workdir.held(directory):
            run = open_run(parts, directory, ahead=True)
            if run.taken:
                _say(f"{directory}: begins with {run.taken}")
            finished = run.step >= config.train.steps
            done = f"{directory}: this run is finished, {run.step} steps are done"
            _say(done if finished else run.describe())
            if not finished and not train(run):
                _say(
                    f"stopped by SIGTERM, all is saved (the last save took "
                    f"{run.checkpoints.took}); run the same command to go on"
                )
                return ExitStatus.STOPPED
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left is quick
            if jax.process_index() == 0:
                # A run has no use for it before.
                from dga_jax.page.report import write_report

                write_report(directory)
    return ExitStatus.COMPLETE


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, flush=True)


if __name__ == "__main__":
    cli.run(main, distributed.tell)
