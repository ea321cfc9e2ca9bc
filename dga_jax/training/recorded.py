"""What a run wrote down of itself, for those who come after it. Only read here.

Its config, the store that it trained on, and every value that its log-weights had: the
series `mixture/log_weight`, float32, of the start and of each update, exact.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.files import replaced
from dga_jax.logs.series import Series, read_series
from dga_jax.mixing.mixers import MIXERS
from dga_jax.stores import find_store
from dga_jax.training import config as configs
from dga_jax.training.config import ConfigDict
from dga_jax.training.mixture import Mixture
from dga_jax.training.mixture_metrics import LOG_WEIGHT
from dga_jax.training.workdir import CONFIG_NAME

_CURSORS_NAME = "start_cursors.npy"


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A run by its workdir.

    Attributes:
      directory: the workdir.
      config: of the run; fields that its version did not know have their defaults.
      data: what identifies store, domains and basis.
      tokenizer: hex SHA-256 of the store's; "" in runs of older versions.
    """

    directory: Path
    config: ConfigDict
    data: dict[str, Any]
    tokenizer: str

    @property
    def first_step(self) -> int:
        """Steps done before its first one."""
        return configs.first_step(self.config)

    @property
    def by_rows_until(self) -> float:
        """The step up to which weights were shares of rows, as in an older version."""
        return self.data.get("by_rows_until", 0 if "draws" in self.data else np.inf)

    def cursors(self) -> np.ndarray:
        """Rows drawn of each domain before its first step: int64 [k]."""
        path = self.directory / _CURSORS_NAME
        if self.first_step and path.exists():
            return np.load(path)
        return np.zeros(self.data["domains"], np.int64)

    def log_weights(self) -> Series | None:
        """Its log-weights, float32, over time; None in runs of older versions."""
        return read_series(self.directory, LOG_WEIGHT, ())

    def open_store(self, moved: str = "") -> Store:
        """Its store, which must be what it was.

        Args:
          moved: where it lies now, if not where it did.

        Raises:
          UserError: it is not there, or another one is.
        """
        name = moved or self.config.data.store
        path = find_store(name, self.config.train.seq_len, self.config.data.cache)
        store = Store.open(path)
        if store.content_hash != self.data["content_hash"]:
            raise UserError(
                f"store {store.path} is not the one that {self.directory} was trained "
                "on: its content_hash differs; name that one, or bring it back"
            )
        return store

    def mixture(self, store: Store, initial: np.ndarray | None = None) -> Mixture:
        """Its domains and sampler.

        Files that its mixer names are not read: updates alone need them.

        Args:
          store: its store.
          initial: float64 [n], its initial weights; None: as its config says.

        Raises:
          UserError: the basis is another one by now, or a file of weights is gone.
        """
        config = self.config.copy_and_resolve_references()
        recipe = MIXERS[config.mixer.name]
        if recipe.files:
            config.mixer[recipe.name].update(dict.fromkeys(recipe.files, ""))
        mixture = Mixture(config, store, initial)
        if (mixture.basis.digest if mixture.basis else "") != self.data["basis"]:
            raise UserError(
                f"basis {self.config.mixer.basis} is not what it was when "
                f"{self.directory} was trained; bring that one back"
            )
        return mixture


def read(directory: Path) -> Recorded | None:
    """What the run of a workdir recorded, or None if it is the workdir of none.

    Raises:
      UserError: the record cannot be read.
    """
    path = directory / CONFIG_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        config = configs.from_fields(record["config"])
        return Recorded(directory, config, record["data"], record.get("tokenizer", ""))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; make it readable") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); start the command of that run again"
        ) from None


def write_cursors(directory: Path, cursors: np.ndarray) -> None:
    """Keeps where a run that goes on from another began, for `Recorded.cursors`."""
    with replaced(directory / _CURSORS_NAME) as file:
        np.save(file, cursors)
