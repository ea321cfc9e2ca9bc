"""Training losses by domain since the last update, at no cost to the steps."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

# Steps whose losses wait on the device: what one fetch brings.
_WAITING = 64


class TrainLosses:
    """Sums over the rows that were trained on, by domain.

    A step's row losses are fetched long after it has ended, so that no step waits. Sums
    are float64 and taken row by row, in the order of the steps: when they are fetched
    changes no bit of them.

    Args:
      domains: k, how many there are.
      pending: what `pending` gave when the run was saved; None if nothing.
    """

    def __init__(self, domains: int, pending: Mapping[str, Any] | None = None):
        self._nats = np.zeros(domains)
        self._tokens = np.zeros(domains)
        self._waiting: list[tuple[np.ndarray, jax.Array]] = []
        if pending:
            self._nats[pending["domains"]] = pending["nats"]
            self._tokens[pending["domains"]] = pending["tokens"]

    def add(self, domains: np.ndarray, row_losses: jax.Array) -> None:
        """The rows of one step.

        Args:
          domains: int64 [B], of each row.
          row_losses: float32 [2, B], nats and tokens of each; may not be there yet.
        """
        self._waiting.append((domains, row_losses))
        if len(self._waiting) > _WAITING:
            last = self._waiting.pop()  # it may be going on
            self._fetch()
            self._waiting = [last]

    def means(self) -> np.ndarray:
        """Nats per token, float32 [k]; NaN without rows; a new interval begins.

        Losses that are not finite give inf: the mixer is to know that they were there.
        """
        self._fetch()
        domains = np.flatnonzero(self._tokens > 0)
        found = (self._nats[domains] / self._tokens[domains]).astype(np.float32)
        means = np.full(len(self._tokens), np.nan, np.float32)
        means[domains] = np.where(np.isfinite(found), found, np.inf)
        self._nats[domains], self._tokens[domains] = 0, 0
        return means

    def pending(self) -> dict[str, list]:
        """Sums since the last update, ready for JSON."""
        self._fetch()
        domains = np.flatnonzero(self._tokens)
        return {
            "domains": domains.tolist(),
            "nats": self._nats[domains].tolist(),
            "tokens": self._tokens[domains].tolist(),
        }

    def _fetch(self) -> None:
        waiting, self._waiting = self._waiting, []
        fetched = jax.device_get([losses for _, losses in waiting])
        for (domains, _), (nats, tokens) in zip(waiting, fetched, strict=True):
            np.add.at(self._nats, domains, nats.astype(np.float64))
            np.add.at(self._tokens, domains, tokens.astype(np.float64))
