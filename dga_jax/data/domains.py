"""The domains of a store: their names, and which rows are theirs."""

import dataclasses
import math
import operator
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Domains:
    """The k domains of one level.

    Attributes:
      names: k names.
      offsets: int64 [k+1]; rows offsets[i]:offsets[i+1] of "train" are domain i.
      heldout_offsets: int64 [k+1], the same for "heldout".
      tokens: int64 [k], tokens that the training rows predict, padding left out.
    """

    names: Sequence[str]
    offsets: np.ndarray
    heldout_offsets: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def num_rows(self) -> np.ndarray:
        """int64 [k], training rows."""
        return np.diff(self.offsets)

    @property
    def tokens_per_row(self) -> np.ndarray:
        """float64 [k], tokens that a training row predicts on average; 1 without any.

        The rows of small domains are not full: the last of each is padded.
        """
        rows = self.num_rows
        any_tokens = (rows > 0) & (self.tokens > 0)
        return np.where(any_tokens, self.tokens, 1.0) / np.where(any_tokens, rows, 1)

    def natural_weights(self, available: np.ndarray | None = None) -> np.ndarray:
        """Shares of the tokens, among domains that are `available`: float64 [k]."""
        tokens = self.tokens if available is None else self.tokens * available
        return tokens / tokens.sum()

    @property
    def num_heldout(self) -> np.ndarray:
        """int64 [k], held-out rows."""
        return np.diff(self.heldout_offsets)


class ClusterNames(Sequence):
    """Names of the clusters of one level, "03.17", made when they are asked for.

    Args:
      branching: children of each cluster, level by level, down to this one.
    """

    def __init__(self, branching: Sequence[int]):
        self._branching = tuple(branching)
        self._digits = [len(str(count - 1)) for count in branching]
        self._length = math.prod(branching)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(index)
        number %= len(self)
        parts = []
        for count, digits in zip(
            reversed(self._branching), reversed(self._digits), strict=True
        ):
            number, child = divmod(number, count)
            parts.append(f"{child:0{digits}d}")
        return ".".join(reversed(parts))


def coarsened(finest: Domains, names: Sequence[str]) -> Domains:
    """The domains that equally many of `finest` in a row make up each."""
    stride = len(finest) // len(names)
    return Domains(
        names=names,
        offsets=finest.offsets[::stride],
        heldout_offsets=finest.heldout_offsets[::stride],
        tokens=finest.tokens.reshape(len(names), stride).sum(axis=1),
    )
