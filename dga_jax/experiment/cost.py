"""What a run cost, in tokens and FLOPs, what steered it counted in.

A run that logs `cost/...` is taken at its word. Of others it follows from the config: a
token that is trained on, or differentiated for a gradient or for a derivative along
one, takes three forward passes; one that is only evaluated takes one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from dga_jax.logs.metrics import history
from dga_jax.logs.series import read_series
from dga_jax.mixing.mixers import MIXERS
from dga_jax.training import config as configs
from dga_jax.training import recorded

_LOGGED = "cost/"
_GRADIENTS = {"gradient_norms", "gradient_variances", "generic_alignments"}

Lines = Sequence[Mapping[str, float | None]]


def of_run(folder: Path, lines: Lines) -> dict[str, float]:
    """Tokens trained on and measured on, and the FLOPs of both.

    Args:
      folder: workdir of a finished run.
      lines: of its log.
    """
    logged = [key for key in lines[-1] if key.startswith(_LOGGED)]
    if logged:
        return {
            key.removeprefix(_LOGGED): history(lines, key)[1][-1].item()
            for key in logged
        }
    run = recorded.read(folder)
    moving = read_series(folder, "mixture/basis_weight", lines)
    moving = moving or read_series(folder, "mixture/weight", lines)
    return by_arithmetic(run.config, len(moving.domains) if moving else 0)


def by_arithmetic(config: ConfigDict, names: int) -> dict[str, float]:
    """The same from a config; padding counts as if it were text.

    Args:
      config: of a run, complete.
      names: how many weights move: domains, or distributions of the basis.
    """
    mixer, train = config.mixer, config.train
    reads = set(MIXERS[mixer.name].reads)
    updates = configs.updates_before(config, train.steps + 1) if reads else 0
    probed = updates * min(mixer.probe_domains or names, names) * mixer.probe_rows
    target = updates * mixer.target_rows
    forwards = {
        "train": 3 * train.steps * train.batch_size,
        "probe": 0,
        "target": 0,
        "reference": 0,
    }
    rows = {"train": train.steps * train.batch_size}
    if "alignments" in reads:
        forwards["probe"] += 3 * probed
        forwards["target"] += 3 * target
    elif "losses" in reads:
        forwards["probe"] += probed
    if reads & _GRADIENTS:  # row by row, then the sum, then along it
        forwards["probe"] += 9 * probed
    rows["probe"] = probed if forwards["probe"] else 0
    rows["target"] = target if forwards["target"] else 0
    if "reference_losses" in reads:
        rows["reference"] = forwards["reference"] = probed
    each = configs.flops_per_token(config) / 3
    found = {f"{name}_tokens": float(n * train.seq_len) for name, n in rows.items()}
    return found | {"flops": each * train.seq_len * sum(forwards.values())}
