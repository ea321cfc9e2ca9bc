"""Whose the rows of a store are: its domains, its targets and what each counts."""

import dataclasses
import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dga_jax.errors import UserError, listed

_SHOWN = 10  # names in an error
_TOLERANCE = 1e-3  # of a sum that a person typed


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


def entropy(weights: np.ndarray) -> float:
    """Of weights over domains that sum to 1, in nats; e to it are effective domains."""
    positive = weights[weights > 0]
    return float(-np.sum(positive * np.log(positive)))


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

    def __iter__(self) -> Iterator[str]:
        """All of them in order, in less time than one by one."""
        parts = (
            [f"{child:0{digits}d}" for child in range(count)]
            for count, digits in zip(self._branching, self._digits, strict=True)
        )
        return map(".".join, itertools.product(*parts))

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


class Targets(NamedTuple):
    """The targets of a store.

    Attributes:
      names: n names; none where there is one target.
      offsets: int64 [n+1]; rows offsets[i]:offsets[i+1] of "target" are target i's.
      eval_offsets: int64 [n+1], the same of "target_eval".
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    eval_offsets: np.ndarray

    @classmethod
    def of(
        cls, entry: Mapping[str, Any] | None, rows: int, eval_rows: int
    ) -> "Targets":
        """The targets that a manifest names; one without a name if it names none.

        Args:
          entry: its `targets`.
          rows: of "target".
          eval_rows: of "target_eval".

        Raises:
          ValueError: the rows are not divided among the names.
        """
        ends = np.array([[0, rows], [0, eval_rows]])
        if not entry:
            return cls((), *ends)
        found = cls(
            tuple(entry["names"]),
            *(np.array(entry[key], np.int64) for key in ("offsets", "eval_offsets")),
        )
        for bounds, end in zip((found.offsets, found.eval_offsets), ends, strict=True):
            steps = np.diff(bounds)
            covered = len(steps) == len(found.names) and (steps > 0).all()
            if not covered or (bounds[[0, -1]] != end).any():
                raise ValueError(f"rows of targets {list(found.names)}: {bounds}")
        return found

    @property
    def count(self) -> int:
        """How many there are, at least one."""
        return len(self.offsets) - 1

    def weights(self, text: str) -> np.ndarray | None:
        """The weights that `config.mixer.targets` gives: float64 [n], or None.

        Args:
          text: NAME=W,NAME=W; a target that is not named has weight 0. "" gives None:
            each row of any target counts the same.

        Raises:
          UserError: a target that is not there, or is named twice; weights that are
            none, or do not sum to 1.
        """
        if not text.strip():
            return None
        where = f"config.mixer.targets={text}"
        if not self.names:
            raise UserError(
                f"{where}: the store has one target; leave the field out, or prepare a"
                " store with --target=NAME=PATTERN for each"
            )
        given = _by_name(text, where)
        for name in given.keys() - set(self.names):
            raise UserError(
                f"{where}: the store has no target {name!r}; it has"
                f" {listed(self.names, _SHOWN)}"
            )
        weights = np.array([given.get(name, 0.0) for name in self.names])
        if abs(weights.sum() - 1) > _TOLERANCE:
            raise UserError(
                f"{where}: the weights sum to {weights.sum():.6g}; let them sum to 1"
            )
        return weights / weights.sum()


def shared_out(total: int, weights: np.ndarray) -> np.ndarray:
    """How many of `total` rows each target has, in proportion to its weight.

    Where all rows are equally noisy, no other division of them makes the weighted mean
    of the targets' losses less so.

    Args:
      total: rows, at least one for each weight above 0.
      weights: float64 [n], sums to 1.

    Returns:
      int64 [n], sums to `total`; 0 only where the weight is.
    """
    counts = (weights > 0).astype(np.int64)
    for _ in range(total - counts.sum()):  # to whom the most is lacking
        counts[np.argmax(weights * total - counts)] += 1
    return counts


def pairs(text: str) -> Iterator[tuple[str, str, float | None]]:
    """What `NAME=W,NAME=W` says: each pair as it stands there, its name, its number.

    The number is None where there is none, or no name.
    """
    for pair in text.split(","):
        name, equals, value = pair.rpartition("=")
        try:
            number = float(value) if equals else None
        except ValueError:
            number = None
        yield pair.strip(), name.strip(), number


def _by_name(text: str, where: str) -> Mapping[str, float]:
    given: dict[str, float] = {}
    for pair, name, number in pairs(text):
        if number is None or not 0 <= number <= 1 + _TOLERANCE:
            raise UserError(
                f"{where}: {pair!r} is not NAME=WEIGHT with a weight in [0, 1]; write"
                " NAME=W,NAME=W"
            )
        if name in given:
            raise UserError(f"{where}: target {name!r} comes twice; leave one out")
        given[name] = number
    return given
