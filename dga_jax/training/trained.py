"""The model of a run that was trained, or is being trained, for what is done with it.

Its parameters alone are read, onto the devices at hand; the run may be going on.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax.errors import UserError
from dga_jax.model.transformer import ModelConfig
from dga_jax.tokenizer import Tokenizer
from dga_jax.training import config as configs
from dga_jax.training import placement, recorded, train_state
from dga_jax.training.optimizer import make_optimizer
from dga_jax.training.programs import keep_compiled
from dga_jax.training.start_from import candidates, newest_good
from dga_jax.training.suited import suited_model


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model with its parameters.

    Attributes:
      directory: workdir of the run.
      step: of the checkpoint.
      config: of the run.
      model: the architecture, computed as suits the mesh, with XLA's attention.
      mesh: that the parameters lie on.
      params: nested dict of float32 arrays.
      tokenizer: of the run's store.
    """

    directory: Path
    step: int
    config: ConfigDict
    model: ModelConfig
    mesh: Mesh
    params: dict
    tokenizer: Tokenizer

    @property
    def longest(self) -> int:
        """Tokens of a text that it may be given."""
        return self.config.model.max_positions or self.config.train.seq_len


def load(
    directory: Path,
    step: int | None = None,
    store: str = "",
    devices: Sequence[jax.Device] | None = None,
) -> Trained:
    """Reads the parameters that a run had after a step.

    Args:
      directory: the workdir.
      step: of a checkpoint that it kept; None: the newest that is good.
      store: where the run's store lies now, if it was moved.
      devices: to place the parameters on; all there are, unless given.

    Raises:
      UserError: no run, no such checkpoint, or the store is not there.
    """
    where = f"--workdir={directory}"
    run = recorded.read(directory)
    if run is None:
        raise UserError(f"{where}: not the workdir of a run")
    # The next time its programs need not be compiled; where is for this machine to say.
    keep_compiled("", run.config.data.cache)
    tokenizer = run.open_store(store).tokenizer()
    mesh = _mesh(run.config, jax.devices() if devices is None else devices)
    model = configs.model_config(run.config)
    optimizer = make_optimizer(configs.optimizer_config(run.config))
    shapes = train_state.abstract_state(model, optimizer, mesh).params
    path = Path(os.path.abspath(directory))
    steps = candidates(where, path, step)
    abstract = {"train": {"params": shapes}}
    found, arrays, _ = newest_good(where, path, steps, abstract)
    params = arrays["train"]["params"]
    model = suited_model(model, mesh)
    return Trained(directory, found, run.config, model, mesh, params, tokenizer)


def _mesh(config: ConfigDict, devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of these devices, which need not be as many as the run had."""
    config = config.copy_and_resolve_references()
    config.mesh.update(data=-1, fsdp=-1)
    if len(devices) % config.mesh.tensor:
        config.mesh.tensor = 1
    return placement.make_mesh(config, devices)
