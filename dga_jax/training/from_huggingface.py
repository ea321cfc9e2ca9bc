"""A run that begins with a Hugging Face directory: `model.from`.

The directory gives architecture and parameters. It is only read, and not any more once
the run has saved: the workdir's record has the architecture.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dga_jax import files
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.huggingface import architecture, tokenizer_files, weights
from dga_jax.training import config as configs

# Fields of the group `model` that the directory does not decide.
OWN = frozenset(("from", "dtype", "remat", "attention", "document_mask", "end_of_text"))


def take_architecture(
    config: ConfigDict, explicit: Iterable[str], before: Mapping[str, Any] | None
) -> None:
    """Sets the fields of a model to what `model.from` says.

    Args:
      config: of the run; gets the absolute path.
      explicit: names of the fields that were set on the command line.
      before: what the workdir recorded of the run, if it was begun: the architecture is
        taken from there, and the directory is not read.

    Raises:
      UserError: the directory's model is not one that is computed here, or a field that
        was set says something else.
    """
    given = config.model["from"]
    if given:
        config.model["from"] = os.path.abspath(_path(given))
    if before is not None:
        then = configs.from_fields(before["config"]).model
        config.model["from"] = config.model["from"] or then["from"]
        found = {name: value for name, value in then.items() if name not in OWN}
    else:
        where = f"config.model.from={given}"
        spec = architecture.read_config(Path(config.model["from"]), where)
        found = architecture.model_fields(spec, where)
    for name, value in found.items():
        asked = config.model[name]
        if f"model.{name}" in explicit and asked != value:
            raise UserError(
                f"config.model.{name}={asked}, but the model of config.model.from="
                f"{config.model['from']} has {value}: leave the flag out"
            )
        config.model[name] = value


def _path(given: str) -> Path:
    remedy = "copy the model here and name its directory"
    return files.local_path("config.model.from", given, remedy)


def load(config: ConfigDict, store: Store, abstract: Any) -> Any:
    """The parameters that a run begins with.

    Args:
      config: of the run.
      store: that it trains on.
      abstract: shapes, dtypes and shardings of the parameters.

    Raises:
      UserError: the directory's files are not whole, or its tokens are not the store's.
    """
    directory = Path(config.model["from"])
    where = f"config.model.from={directory}"
    model = configs.model_config(config)
    found = weights.check(directory, model, where)
    tokenizer_files.check_same(directory, store.tokenizer(), where)
    return weights.load(found, model, abstract)
