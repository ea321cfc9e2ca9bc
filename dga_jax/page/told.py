"""What a page is made from: what one run wrote down, and the tables made of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from dga_jax.data.store import MANIFEST, Store
from dga_jax.errors import UserError
from dga_jax.files import cache_directory, is_remote
from dga_jax.logs.series import Series
from dga_jax.mixing.mixers import MIXERS
from dga_jax.stores import SAMPLES, find_store
from dga_jax.training import recorded


class Told(NamedTuple):
    """A run.

    Attributes:
      title: its name.
      heading: steps, domains and time in a line.
      workdir: where it lies.
      record: its config and what it was trained on; None if that cannot be read.
      lines: of its log.
      weights: of its domains; None if the log has none.
      basis_weights: of its basis; None without one.
      drawn: shares of the tokens drawn, where they are not the weights by chance alone.
      tables: rows of text by what they are of: "loss", "domain", "basis".
      facts: lines on speed and cost.
      warnings: signs of failure, a line each.
    """

    title: str
    heading: str
    workdir: Path
    record: recorded.Recorded | None
    lines: Sequence[Mapping[str, float | None]]
    weights: Series | None
    basis_weights: Series | None
    drawn: Series | None
    tables: Mapping[str, Sequence[Sequence[str]]]
    facts: Sequence[str]
    warnings: Sequence[str]

    @property
    def moving(self) -> Series | None:
        """The weights that an update moves: the basis', where there is one."""
        return self.weights if self.basis_weights is None else self.basis_weights

    @property
    def config(self) -> ConfigDict | None:
        """That of the run, or None."""
        return self.record.config if self.record else None


def read_record(workdir: Path) -> recorded.Recorded | None:
    """A run's config and what it was trained on; None if that cannot be read."""
    try:
        return recorded.read(workdir)
    except UserError:
        return None


def moves(config: ConfigDict | None) -> bool | None:
    """Whether the mixer ever moves weights; None if it is not known."""
    recipe = MIXERS.get(config.mixer.name) if config is not None else None
    return recipe.moves if recipe else None


def find(record: recorded.Recorded) -> tuple[Store | None, str]:
    """The store of a run where it is on this machine; nothing is made or copied.

    Returns:
      The store, or None; and if it is None, why.
    """
    name = record.config.data.store
    try:
        if is_remote(name) or name in SAMPLES:
            path = _cached(record)
        else:
            path = find_store(name, record.config.train.seq_len)
        if path is None:
            return None, f"the store {name} is not on this machine"
        store = Store.open(path)
    except UserError as error:
        return None, str(error)
    if store.content_hash != record.data.get("content_hash"):
        return None, f"the store at {path} is another one than that of the run"
    return store, ""


def _cached(record: recorded.Recorded) -> Path | None:
    """Where a store lies that was made or copied, by what is in it."""
    for manifest in sorted(
        cache_directory(record.config.data.cache).glob(f"*/{MANIFEST}")
    ):
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if content.get("content_hash") == record.data.get("content_hash"):
            return manifest.parent
    return None
