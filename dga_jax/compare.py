"""Trains the same model on four mixtures of the same domains, and compares them.

    python -m dga_jax.compare --config=configs/clusters_quickstart.py \
      --workdir=runs/compare --seeds=0,1,2

Uniform weights, importance sampling, DGA over the domains themselves and DGA over the
config's basis (Fan, Grangier and Ablin 2024): one run each for every seed, in
WORKDIR/MIXTURE-SEED. Stopped, it goes on where it was.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from dga_jax import cli, one_of_several
from dga_jax.errors import ExitStatus, UserError
from dga_jax.logs import plot
from dga_jax.logs.console import columns, scientific
from dga_jax.logs.metrics import history, read_metrics
from dga_jax.logs.series import read_series
from dga_jax.training import workdir
from dga_jax.training.loop import train
from dga_jax.training.setup import Parts, check, open_run, start_jax

MIXTURES = {
    "uniform": {"name": "static", "weights": "uniform", "basis": ""},
    "importance": {"name": "importance", "weights": "", "basis": ""},
    "dga": {"name": "dga", "weights": "", "basis": ""},
    "dga-basis": {"name": "dga", "weights": ""},
}
_COLUMNS = {
    "target loss": "eval/target/loss",
    "generic, uniform": "eval/generic_uniform/loss",
    "generic, natural": "eval/generic_natural/loss",
    "effective domains": "mixture/effective_domains",
}
_FLOPS = "cost/flops"
_EPOCHS = "most epochs"
_SPENT = "total FLOPs"
_USED_UP = "used up"

Lines = Sequence[Mapping[str, float | None]]


class Outcome(NamedTuple):
    """Where one run ended, and how it went there.

    Attributes:
      mixture: one of `MIXTURES`.
      seed: of the run.
      final: last value by column of the table, NaN where there is none; under "used up"
        the weight of domains that are, of which nothing is drawn any more.
      curves: (steps, losses) by name, as `plot.draw_comparison` takes them.
      by_flops: (FLOPs spent in all, losses) by name.
    """

    mixture: str
    seed: int
    final: Mapping[str, float]
    curves: Mapping[str, plot.Curve]
    by_flops: Mapping[str, plot.Curve]


def variant(config: ConfigDict, mixture: str, seed: int, probes: int) -> ConfigDict:
    """The config of one run.

    Args:
      config: with a basis.
      mixture: one of `MIXTURES`.
      seed: of the run.
      probes: domains that direct DGA measures in an update, unless the config says.
    """
    config = copy.deepcopy(config)
    config.seed = seed
    asked = config.mixer.probe_domains
    config.mixer.update(MIXTURES[mixture], probe_domains=0)
    if mixture == "dga":
        config.mixer.probe_domains = asked or probes
    return config


def compare(
    config: ConfigDict, explicit: set[str], directory: Path, seeds: Sequence[int]
) -> list[Outcome] | None:
    """Trains all that is not trained yet; None if a SIGTERM stopped it.

    Raises:
      UserError: the config is not valid for one of the mixtures; nothing is trained
        then.
    """
    if not config.mixer.basis:
        raise UserError("config.mixer.basis is not set: name the basis to compare with")
    if config.start["from"] and config.start.what == "all":
        raise UserError(
            "config.start.what=all: all four would begin with the same weights; take "
            "params to compare mixtures from there on"
        )
    planned: list[tuple[str, int, Parts]] = []
    chosen = variant(config, "dga-basis", 0, 0)
    probes = _parts("dga-basis", chosen, explicit).mixture.num_probes
    for seed in seeds:
        for mixture in MIXTURES:
            chosen = variant(config, mixture, seed, probes)
            planned.append((mixture, seed, _parts(mixture, chosen, explicit)))
    outcomes = []
    for mixture, seed, parts in planned:
        folder = directory / f"{mixture}-{seed}"
        with workdir.locked(folder):
            run = open_run(parts, folder)
            if run.step < run.config.train.steps:
                print(f"\n{run.describe()}", flush=True)
                if not train(run):
                    return None
            else:
                run.checkpoints.close()
        outcomes.append(_outcome(mixture, seed, folder))
    return outcomes


def _parts(mixture: str, config: ConfigDict, explicit: set[str]) -> Parts:
    try:
        return check(config, explicit)
    except UserError as error:
        raise UserError(f"{mixture}, seed {config.seed}: {error}") from error


def _outcome(mixture: str, seed: int, folder: Path) -> Outcome:
    lines = read_metrics(folder)
    final = {name: _last(lines, key) for name, key in _COLUMNS.items()}
    final[_USED_UP] = _last(lines, "mixture/used_up", 0.0)
    epochs = read_series(folder, "data/epochs", lines)
    final[_EPOCHS] = float(np.max(epochs.values[-1]))
    final[_SPENT] = _last(lines, _FLOPS)
    losses = {name: key for name, key in _COLUMNS.items() if key.startswith("eval/")}
    curves = {name: history(lines, key) for name, key in losses.items()}
    by_flops = {}
    for name, key in losses.items():
        spent = [x for x in lines if None not in (x.get(key), x.get(_FLOPS))]
        by_flops[name] = tuple(history(spent, x)[1] for x in (_FLOPS, key))
    return Outcome(mixture, seed, final, curves, by_flops)


def _last(lines: Lines, key: str, default: float = math.nan) -> float:
    _, values = history(lines, key)
    return float(values[-1]) if len(values) else default


def table(outcomes: Sequence[Outcome]) -> str:
    """Means over the seeds, with standard deviations where there are several.

    Below it, for which runs the weights are not what is drawn, if there are any.
    """
    header = ["", *_COLUMNS, _EPOCHS, _SPENT]
    rows = [header]
    for mixture in MIXTURES:
        of = [outcome.final for outcome in outcomes if outcome.mixture == mixture]
        rows.append([mixture])
        for column in header[1:-1]:
            values = np.array([final[column] for final in of])
            digits = 3 if "loss" in column or "generic" in column else 1
            cell = f"{values.mean():,.{digits}f}"
            if len(values) > 1:
                cell += f" ± {values.std(ddof=1):,.{digits}f}"
            rows[-1].append(cell if np.isfinite(values).all() else "-")
        spent = np.mean([final[_SPENT] for final in of])  # a seed changes nothing
        rows[-1].append(scientific(spent))
    lines = [columns(rows)]
    used_up = [
        f"{o.mixture}, seed {o.seed} ({o.final[_USED_UP]:.3g} of the weight)"
        for o in outcomes
        if o.final[_USED_UP] > 0
    ]
    if used_up:
        lines.append(
            "effective domains are of the weights, but domains are used up "
            f"(data.max_epochs) and others drawn instead: {'; '.join(used_up)}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> ExitStatus:
    """The command line: see the top of this file."""
    cli.no_arguments(argv)
    directory = workdir.of_flag(flags.FLAGS.workdir)
    config, explicit = cli.load_config("config")
    if one_of_several():
        raise UserError(
            "compare runs in one process; start it on one host, or train each mixture"
            " with dga_jax.main on all of them"
        )
    start_jax(config)
    try:
        seeds = [int(seed) for seed in flags.FLAGS.seeds]
    except ValueError:
        raise UserError(
            f"--seeds={','.join(flags.FLAGS.seeds)}: whole numbers, as in 0,1,2"
        ) from None
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(
            f"--seeds={','.join(flags.FLAGS.seeds)}: one seed or more, each once"
        )
    outcomes = compare(config, explicit, directory, seeds)
    if outcomes is None:
        print("stopped by SIGTERM, all is saved; run the same command to go on")
        return ExitStatus.STOPPED
    steps = config.train.steps
    print(
        f"\n{directory.name}: {steps} steps, seeds {', '.join(map(str, seeds))};"
        " nats per token"
    )
    print(table(outcomes))
    curves = [(o.mixture, o.curves) for o in outcomes]
    by_flops = [(o.mixture, o.by_flops) for o in outcomes]
    path = plot.draw_comparison(directory / "compare.png", curves, by_flops)
    print(f"plot: {path}")
    return ExitStatus.COMPLETE


if __name__ == "__main__":
    config_flags.DEFINE_config_file(
        "config", None, "Config file with a basis: configs/NAME.py[:field=value]."
    )
    flags.DEFINE_string("workdir", None, "Directory of the runs.")
    flags.DEFINE_list("seeds", ["0"], "Seeds; each trains every mixture once.")
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main)
