"""Losses on held-out text: the target, each domain, and the generic corpus.

The loss of one text is a ratio of sums over its rows, in nats per token or in bits per
byte; that of several texts is the weighted mean of theirs.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from dga_jax import sharding
from dga_jax.data.store import Store, filled
from dga_jax.model.loss import RowLosses

TARGET = "target"
_STEERING_ROWS = 32  # the same every time: to be compared with themselves

Evaluate = Callable[[Any, jax.Array], RowLosses]  # as `Steps.evaluate`


class Group(NamedTuple):
    """Sums over the held-out rows of one text: nats, tokens, UTF-8 bytes."""

    nats: float
    tokens: float
    bytes: float

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text."""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan


class Evaluation(NamedTuple):
    """What held-out text says of a model.

    Attributes:
      metrics: `eval/target/loss` (nats per token) and `eval/target/bits_per_byte`, a
        ratio of sums; the same for `eval/generic_uniform`, Σ_i loss_i / k over the k
        domains with held-out rows, and `eval/generic_natural`, Σ_i w_i loss_i with w_i
        their shares of the training tokens. Bits per byte are weighed likewise. Of
        several targets also `eval/target/NAME/loss` and `.../bits_per_byte`, and that
        of all is the mean of theirs, weighed by their shares of the held-out rows.
        `eval/target_steering/loss`, where asked for, is of rows that steer.
      names: of the n domains of the store's level 0.
      losses: float64 [n], by domain, nats per token; NaN without held-out rows.
      bits_per_byte: float64 [n], the same in bits per byte.
    """

    metrics: dict[str, float]
    names: Sequence[str]
    losses: np.ndarray
    bits_per_byte: np.ndarray


def weighted(values: np.ndarray, weights: np.ndarray) -> float:
    """Σ w_i v_i over the domains with a weight, NaN without any; both are [k].

    How much a domain counts is for its weight to say, not for how full its rows are.
    """
    counted = weights > 0
    return float(weights[counted] @ values[counted]) if counted.any() else math.nan


class Evaluator:
    """Fixed held-out rows, evaluated in batches of one shape.

    Domains are those of the store's level 0, whatever level is trained on, so that runs
    at different levels can be compared.

    Args:
      store: of the run.
      mesh: of the run.
      rows: held-out rows of each domain, spread evenly over what there is.
      target_rows: of each target's held-out part; 0 for all.
      batch_size: rows computed at a time.
      steering_rows: rows of the targets' steering part, at most as many as held-out
        ones are evaluated; 0 for none.

    Attributes:
      num_rows: that an evaluation computes.
    """

    def __init__(
        self,
        store: Store,
        mesh: Mesh,
        *,
        rows: int,
        target_rows: int,
        batch_size: int,
        steering_rows: int = 0,
    ):
        domains, targets = store.domains(0), store.targets
        parts, sizes = [], []
        for split, offsets, wanted in (
            ("target_eval", targets.eval_offsets, target_rows),
            ("heldout", domains.heldout_offsets, rows),
        ):
            for low, high in itertools.pairwise(offsets):
                if high > low:
                    ids = low + _spread(high - low, wanted)
                    parts.append(store.read(split, ids))
                    sizes.append(store.row_bytes(split, ids))
        held_out = sum(map(len, parts[: targets.count]))
        self._steering = min(steering_rows, held_out) > 0
        if self._steering:
            ids = _spread(store.num_rows("target"), min(steering_rows, held_out))
            parts.append(store.read("target", ids))
            sizes.append(np.zeros(len(ids)))  # bits per byte are not asked for
        self._targets = targets.names
        held = np.diff(targets.eval_offsets)
        self._target_shares = held / held.sum()
        self._names = domains.names
        self._present = np.flatnonzero(domains.num_heldout)
        tokens = domains.tokens[self._present].astype(np.float64)
        self._natural = tokens / max(tokens.sum(), 1)
        self._groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self._rows = np.concatenate(parts)
        self.num_rows = len(self._rows)
        self._bytes = np.concatenate(sizes)
        if np.isnan(self._bytes).any() and jax.process_index() == 0:
            why = (
                "those of answers alone do not follow from this tokenizer's tokens"
                if store.answers
                else f"store {store.path} was made before the bytes of its text were"
                " counted; prepare it again to have them"
            )
            print(f"bits per byte are not known: {why}", flush=True)
        self._sharding = sharding.batch_sharding(mesh)
        self._batch_size = batch_size

    def __call__(self, evaluate: Evaluate, params: Any) -> Evaluation:
        """Evaluates the model; `evaluate` is `Steps.evaluate`."""
        groups = self._sums(evaluate, params)
        metrics, by_domain = {}, []
        if self._steering:
            metrics[f"eval/{TARGET}_steering/loss"] = groups.pop().loss
        count = len(self._target_shares)
        targets, domains = groups[:count], groups[count:]
        for unit in ("loss", "bits_per_byte"):
            values = np.array([getattr(group, unit) for group in targets])
            metrics[f"eval/{TARGET}/{unit}"] = weighted(values, self._target_shares)
            for name, value in zip(self._targets, values.tolist(), strict=False):
                metrics[f"eval/{TARGET}/{name}/{unit}"] = value
            values = np.array([getattr(group, unit) for group in domains])
            if domains:
                uniform = np.full(len(domains), 1 / len(domains))
                metrics[f"eval/generic_uniform/{unit}"] = weighted(values, uniform)
                natural = weighted(values, self._natural)
                metrics[f"eval/generic_natural/{unit}"] = natural
            by_domain.append(np.full(len(self._names), np.nan))
            by_domain[-1][self._present] = values
        return Evaluation(metrics, self._names, *by_domain)

    def _sums(self, evaluate: Evaluate, params: Any) -> list[Group]:
        # All batches are dispatched before the first result is fetched.
        results = []
        for start in range(0, len(self._rows), self._batch_size):
            rows = self._rows[start : start + self._batch_size]
            rows = filled(rows, self._batch_size)
            results.append(evaluate(params, sharding.place(rows, self._sharding)))
        count = self.num_rows
        nats = np.concatenate([np.asarray(r.nll, np.float64) for r in results])[:count]
        tokens = np.concatenate([np.asarray(r.count) for r in results])[:count]

        def by_group(values: np.ndarray) -> list[float]:
            return np.bincount(self._groups, values).tolist()

        columns = (nats, tokens, self._bytes)
        return [Group(*sums) for sums in zip(*map(by_group, columns), strict=True)]


def steering_rows(reads: Iterable[str]) -> int:
    """How many rows of the part that steers to evaluate: none where it steers nothing.

    Args:
      reads: names of the signals that the mixer reads.
    """
    steers = any(name == "alignments" or "target" in name for name in reads)
    return _STEERING_ROWS if steers else 0


def _spread(available: int, wanted: int) -> np.ndarray:
    """At most `wanted` (0: all) of range(available), evenly spread."""
    if not wanted or wanted >= available:
        return np.arange(available)
    return np.arange(wanted) * available // wanted
