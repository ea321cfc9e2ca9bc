"""The parameters of an earlier run, under which a mixer's probe rows are evaluated."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax import sharding
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.model.loss import make_row_losses
from dga_jax.training import config as configs
from dga_jax.training import recorded, train_state
from dga_jax.training.optimizer import make_optimizer
from dga_jax.training.start_from import candidates, newest_good, run_and_step


class Reference(NamedTuple):
    """A model to compare with.

    Attributes:
      evaluate: (params, rows [B, L+1]) -> RowLosses.
      params: its parameters.
    """

    evaluate: Callable
    params: Any


def load(
    config: ConfigDict, before: Mapping[str, Any] | None, store: Store, mesh: Mesh
) -> Reference:
    """Reads what `mixer.reference_run` names; its architecture may be another.

    Args:
      config: of the run; the field gets the step of the checkpoint.
      before: what the workdir recorded of the run, if it was begun: it goes on with the
        same checkpoint.
      store: of the run.
      mesh: to place the parameters on.

    Raises:
      UserError: the run, or its checkpoint, is not there, or is of another store.
    """
    _settle(config, before)
    given = config.mixer.reference_run
    path, asked = run_and_step(given)
    where = f"config.mixer.reference_run={given}"
    run = recorded.read(path)
    if run is None:
        raise UserError(f"{where}: {path} is not the workdir of a run; name one")
    if run.tokenizer and run.tokenizer != store.manifest["tokenizer"]["sha256"]:
        raise UserError(
            f"{where}: its tokens are of another tokenizer than those of store "
            f"{store.path}; train the reference on this store"
        )
    if run.data["content_hash"] != store.content_hash:
        raise UserError(
            f"{where}: it was trained on another store ({run.config.data.store}) than "
            f"{store.path}; train the reference on this one"
        )
    model = configs.model_config(run.config)
    optimizer = make_optimizer(configs.optimizer_config(run.config))
    shapes = train_state.abstract_state(model, optimizer, mesh).params
    steps = candidates(where, path, asked)
    step, arrays, _ = newest_good(where, path, steps, {"train": {"params": shapes}})
    config.mixer.reference_run = f"{path}@{step}"
    losses = make_row_losses(
        train_state.graph(model),
        chunk=config.train.loss_chunk,
        constrain=sharding.constrain_rows(mesh),
    )
    evaluate = jax.jit(losses, out_shardings=sharding.replicated(mesh))
    return Reference(evaluate, arrays["train"]["params"])


def _settle(config: ConfigDict, before: Mapping[str, Any] | None) -> None:
    """Gives the field the words that were recorded, if it means the same."""
    given = config.mixer.reference_run
    recorded_as = (before or {"config": {}})["config"].get("mixer", {})
    recorded_as = recorded_as.get("reference_run", "")
    if not recorded_as:
        return
    (path, step), (old, old_step) = run_and_step(given), run_and_step(recorded_as)
    if Path(os.path.realpath(path)) == Path(os.path.realpath(old)) and step in (
        None,
        old_step,
    ):
        config.mixer.reference_run = recorded_as
