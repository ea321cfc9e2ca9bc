"""The config that a run has: --config=configs/of_run.py:WORKDIR[,field=value]."""

from pathlib import Path

from ml_collections import ConfigDict

from dga_jax.errors import UserError
from dga_jax.training import recorded
from dga_jax.training.config import apply_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """That of the run in WORKDIR, whatever file and flags it came from."""
    workdir, _, fields = (argument or "").partition(",")
    if argument and Path(argument).is_dir():
        workdir, fields = argument, ""
    run = recorded.read(Path(workdir)) if workdir else None
    if run is None:
        raise UserError(
            f"configs/of_run.py:{workdir}: expected the workdir of a run, as in "
            "--config=configs/of_run.py:runs/mine"
        )
    return apply_argument(run.config, fields)
