"""Trains the combinations of an experiment, and says what came of them.

    python -m dga_jax.experiment --config=configs/experiments/headline.py \
      --workdir=runs/headline

Each run is one of `dga_jax.main`, in WORKDIR/runs/NAME, and goes on where it was. What
came of all of them is WORKDIR/results.jsonl, a table, a figure and a page; --draw makes
these three again, without training.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from dga_jax import cli, one_of_several
from dga_jax.errors import ExitStatus, UserError
from dga_jax.experiment import page, plan, runner
from dga_jax.experiment.spec import Experiment
from dga_jax.training import workdir
from dga_jax.training.setup import start_jax

# Of the command line, what does not say which experiment it is.
_SKIPPED = ("tasks", "only", "reuse", "draw", "nodraw", "list", "nolist")


def main(argv: Sequence[str]) -> ExitStatus:
    """The command line: see the top of this file."""
    cli.no_arguments(argv)
    directory = workdir.of_flag(flags.FLAGS.workdir)
    if flags.FLAGS["config"].value is None:
        if not flags.FLAGS.draw:
            raise UserError("--config is missing; or give --draw to draw what there is")
        return _draw(directory)
    config, explicit = cli.load_config("config")
    every = plan.plan(config, explicit)
    runs = plan.share(plan.only(every, flags.FLAGS.only), flags.FLAGS.tasks)
    if flags.FLAGS.list:
        print("\n".join(run.name for run in runs))
        return ExitStatus.COMPLETE
    _describe(directory, config.experiment, keep_command=flags.FLAGS.draw)
    if flags.FLAGS.draw:
        return _draw(directory)
    if one_of_several():
        raise UserError(
            "an experiment trains in one process; share its runs out with --tasks=i/n"
        )
    runner.take_over(every, directory, [Path(x) for x in flags.FLAGS.reuse])
    start_jax(config)
    trained = runner.train_all(runs, every, directory, explicit)
    if trained.status == ExitStatus.STOPPED:
        print("stopped by SIGTERM, all is saved; run the same command to go on")
        return trained.status
    _draw(directory)
    if trained.failed:
        print(
            f"error: {len(trained.failed)} of {len(runs)} runs failed: "
            f"{', '.join(trained.failed)}; the same command tries them again",
            file=sys.stderr,
        )
    return trained.status


def _describe(directory: Path, experiment: Experiment, *, keep_command: bool) -> None:
    """Writes down what is drawn by; drawing alone is not how it was made."""
    command = page.read_command(directory) if keep_command else ""
    command = command or _command(sys.argv[1:])
    page.write_description(directory, experiment, command)


def _command(arguments: Sequence[str]) -> str:
    """The command that trains it all, for the page."""
    shown = [a for a in arguments if not a.lstrip("-").startswith(_SKIPPED)]
    return shlex.join(["python", "-m", "dga_jax.experiment", *shown])


def _draw(directory: Path) -> ExitStatus:
    print(f"\n{page.draw(directory)}\n{directory / page.PAGE}")
    return ExitStatus.COMPLETE


if __name__ == "__main__":
    config_flags.DEFINE_config_file(
        "config", None, "Config with an experiment: configs/experiments/NAME.py."
    )
    flags.DEFINE_string("workdir", None, "Directory of the runs and their results.")
    flags.DEFINE_string(
        "tasks", "", "i/n: the runs of one of n processes; as SLURM's array says."
    )
    flags.DEFINE_list("only", [], "AXIS=POINT,...: runs with one of these points.")
    flags.DEFINE_list(
        "reuse", [], "Directories of experiments whose runs of the same config count."
    )
    flags.DEFINE_bool("draw", False, "Train nothing: table, figure and page again.")
    flags.DEFINE_bool("list", False, "Train nothing: print the names of the runs.")
    flags.mark_flag_as_required("workdir")
    cli.run(main)
