"""Weights, and a mixer's state, taken over from another run, name by name."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dga_jax.errors import listed
from dga_jax.mixing.mixers import MixerState
from dga_jax.training.mixture import Mixture

_SHOWN = 8  # names, in messages


class Taken(NamedTuple):
    """Weights that have come from another run.

    Attributes:
      log_weights: float32 [n].
      places: int64 [n], where each was in the other run; -1 for a new name.
      said: what came and what did not, in words.
    """

    log_weights: np.ndarray
    places: np.ndarray
    said: str


def taken_over(
    old: MixerState, old_names: Sequence[str], fresh: MixerState, mixture: Mixture
) -> Taken:
    """Weights of another run for the names of a mixture.

    Args:
      old: what the other run left.
      old_names: of what its weights are over.
      fresh: the state that the mixture would begin with by itself.
      mixture: of the new run.
    """
    if old_names is mixture.names:  # there may be millions
        names, places = old_names, np.arange(len(old_names))
    else:
        place = {name: i for i, name in enumerate(old_names)}
        names = list(mixture.names)
        places = np.array([place.get(name, -1) for name in names], np.int64)
    before, initial = (np.asarray(state.log_weights) for state in (old, fresh))
    moved = weights_by_name(before, places, initial, mixture.available)
    if moved is initial:
        return Taken(moved, places, "weights as the config says")
    had = places >= 0
    said = f"weights of {int(had.sum()):,} names"
    if names is old_names:
        return Taken(moved, places, said)
    known = set(names)
    new = [name for name, known in zip(names, had, strict=True) if not known]
    gone = [name for name in old_names if name not in known]
    said += f", {listed(new, _SHOWN)} new" if new else ""
    said += f", {listed(gone, _SHOWN)} gone" if gone else ""
    return Taken(moved, places, said)


def weights_by_name(
    old: np.ndarray,
    places: np.ndarray,
    initial: np.ndarray,
    available: np.ndarray,
) -> np.ndarray:
    """Log-weights [n] over names of which some have weights already.

    Names without any get their initial weights, the others share the rest in the
    proportions that they had.

    Args:
      old: float32 [m], log-weights.
      places: int64 [n], into `old`; -1 for a new name.
      initial: float32 [n], log of the initial weights.
      available: bool [n], what can have a weight.

    Returns:
      float32 [n]; `old` itself, to the last bit, where names and rows are the same.
      `initial` if nothing that had a weight is left.
    """
    known = places >= 0
    kept = np.where(known & available, old[places], -np.inf)
    if np.array_equal(places, np.arange(len(old))) and np.array_equal(kept, old):
        return old
    kept, first = kept.astype(np.float64), initial.astype(np.float64)
    mass = np.exp(kept).sum()
    rest = np.exp(first[known]).sum()  # 1 minus the others would lose a small one
    if not mass or not rest:
        return initial
    weights = np.where(known, kept + np.log(rest / mass), first)
    return (weights - np.log(np.exp(weights).sum())).astype(np.float32)


def inner_by_name(old: Any, fresh: Any, places: np.ndarray, count: int) -> Any:
    """A mixer's own state: what there is one of for each name goes with the name.

    Args:
      old: of the other run, over `count` names.
      fresh: as it would be at first; kept where the two are of different kinds.
      places: int64 [n], as in `Taken`.
      count: of the names of the other run.
    """
    leaves, structure = jax.tree.flatten(fresh)
    before = jax.tree.leaves(old)
    if len(before) != len(leaves):
        return fresh
    taken = []
    for was, now in zip(map(np.asarray, before), map(np.asarray, leaves), strict=True):
        if was.shape[:1] == (count,) and now.shape[:1] == places.shape:
            now = np.array(now)
            now[places >= 0] = was[places[places >= 0]]
        elif was.shape == now.shape:
            now = was
        taken.append(now)
    return jax.tree.unflatten(structure, taken)
