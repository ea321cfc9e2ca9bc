"""Losses on held-out text: the target, each domain, and the generic corpus.

Sums of nats, tokens and bytes are kept apart until the end: an average over rows is a
ratio of sums, in nats per token or in bits per byte.
"""

import math
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from dga_jax import sharding
from dga_jax.data.row_bytes import row_bytes
from dga_jax.data.store import PAD, Store

TARGET = "target"


class Group(NamedTuple):
    """Sums over the held-out rows of one text: rows, nats, tokens, UTF-8 bytes."""

    rows: float
    nats: float
    tokens: float
    bytes: float

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text."""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan


def mixed(groups: list[Group], weights: np.ndarray) -> Group:
    """Expected sums of one row when text i is drawn with weight i: Σ w_i sums_i / n_i.

    Args:
      groups: k of them.
      weights: [k], sums to 1.
    """
    shares = [w / group.rows for w, group in zip(weights, groups, strict=True)]
    sums = [
        sum(share * group[field] for share, group in zip(shares, groups, strict=True))
        for field in range(len(Group._fields))
    ]
    return Group(*sums)


class Evaluator:
    """Fixed held-out rows, evaluated in batches of one shape.

    Domains are those of the store's level 0, whatever level is trained on, so that runs
    at different levels can be compared.

    Args:
      store: of the run.
      mesh: of the run.
      rows: held-out rows of each domain, spread evenly over what there is.
      target_rows: of the target's held-out part; 0 for all.
      batch_size: rows computed at a time.
    """

    def __init__(
        self, store: Store, mesh: Mesh, *, rows: int, target_rows: int, batch_size: int
    ):
        domains = store.domains(0)
        ids = _spread(store.num_rows("target_eval"), target_rows)
        parts = [store.read("target_eval", ids)]
        sizes = [row_bytes(store, "target_eval", ids)]
        self.names = []
        weights = []
        for i, name in enumerate(domains.names):
            low, high = domains.heldout_offsets[i : i + 2]
            if high > low:
                ids = low + _spread(high - low, rows)
                parts.append(store.read("heldout", ids))
                sizes.append(row_bytes(store, "heldout", ids))
                self.names.append(name)
                weights.append(domains.tokens[i])
        self._natural = np.array(weights, np.float64) / max(np.sum(weights), 1)
        self._groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self._rows = np.concatenate(parts)
        self._bytes = np.concatenate(sizes)
        if np.isnan(self._bytes).any() and jax.process_index() == 0:
            print(
                f"bits per byte are not known: store {store.path} was made before the"
                " bytes of its text were counted; prepare it again to have them",
                flush=True,
            )
        self._sharding = sharding.batch_sharding(mesh)
        self._batch_size = batch_size

    def __call__(self, evaluate, params) -> dict[str, float]:
        """Metrics of the model; `evaluate` is `Steps.evaluate`.

        Returns:
          `eval/target/loss` (nats per token) and `eval/target/bits_per_byte`; the same
          for `eval/generic_uniform`, every domain weighing the same,
          `eval/generic_natural`, domains weighing as their training tokens do, and each
          `eval/domain/NAME`.
        """
        target, *domains = self._sums(evaluate, params)
        groups = {TARGET: target}
        if domains:
            uniform = np.full(len(domains), 1 / len(domains))
            groups["generic_uniform"] = mixed(domains, uniform)
            groups["generic_natural"] = mixed(domains, self._natural)
        for name, group in zip(self.names, domains, strict=True):
            groups[f"domain/{name}"] = group
        metrics = {}
        for name, group in groups.items():
            metrics[f"eval/{name}/loss"] = group.loss
            metrics[f"eval/{name}/bits_per_byte"] = group.bits_per_byte
        return metrics

    def _sums(self, evaluate, params):
        # All batches are dispatched before the first result is fetched.
        results = []
        for start in range(0, len(self._rows), self._batch_size):
            rows = self._rows[start : start + self._batch_size]
            missing = self._batch_size - len(rows)
            rows = np.pad(rows, ((0, missing), (0, 0)), constant_values=PAD)
            results.append(evaluate(params, sharding.place(rows, self._sharding)))
        count = len(self._rows)
        nats = np.concatenate([np.asarray(r.nll, np.float64) for r in results])[:count]
        tokens = np.concatenate([np.asarray(r.count) for r in results])[:count]

        def by_group(values):
            return np.bincount(self._groups, values).tolist()

        columns = (np.ones(count), nats, tokens, self._bytes)
        return [Group(*sums) for sums in zip(*map(by_group, columns), strict=True)]


def _spread(available: int, wanted: int) -> np.ndarray:
    """At most `wanted` (0: all) of range(available), evenly spread."""
    if not wanted or wanted >= available:
        return np.arange(available)
    return np.arange(wanted) * available // wanted
