"""Hierarchical k-means: making a tree of clusters, and putting points into it."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from dga_jax.benchmark.tables import Check, Table
from dga_jax.prepare.clusters.tree import Tree

_GOALS = {(1_000_000, 384, (64, 64, 64)): (30 * 60.0, 60.0)}  # seconds: make, assign
_TOPICS_PER_CLUSTER = 1 / 16  # gaussians that points come from
_SPREAD = 0.7  # of a point around its gaussian's mean, both of unit norm
_BLOCK = 1 << 16
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      points: n.
      dim: d.
      branching: of the tree.
    """

    points: int = 1_000_000
    dim: int = 384
    branching: tuple[int, ...] = (64, 64, 64)


QUICK = Size(points=20_000, dim=64, branching=(16, 16))


def run(size: Size) -> Iterator[Table]:
    """Seconds for each level, and for assigning every point again."""
    points = _points(size)
    tree, rows, total = Tree(size.branching), {}, 0.0
    for level in range(len(size.branching)):
        tree, seconds = _timed(tree.fit_level, points)
        clusters = math.prod(size.branching[: level + 1])
        rows[f"level {level}: {clusters:,} clusters"] = _cells(seconds, size)
        total += seconds
    rows["all levels"] = _cells(total, size)
    _, assigning = _timed(tree.assign, points)
    rows["assignment"] = _cells(assigning, size)
    goals = _GOALS.get((size.points, size.dim, size.branching))
    checks = ()
    if goals:
        checks = (
            Check(f"the tree in at most {goals[0]:,.0f} s", total, goals[0]),
            Check(f"assignment in at most {goals[1]:.0f} s", assigning, goals[1]),
        )
    yield Table(
        f"clusters: {size.points:,} points of {size.dim} dimensions,"
        f" {tree.num_clusters:,} clusters",
        ("s", "points/s"),
        rows,
        checks,
    )


def _points(size: Size) -> np.ndarray:
    """Unit vectors around unit vectors, float32 [n, d]."""
    rng = np.random.default_rng(0)
    topics = max(int(math.prod(size.branching) * _TOPICS_PER_CLUSTER), 1)
    means = _units(rng.standard_normal((topics, size.dim), np.float32))
    points = np.empty((size.points, size.dim), np.float32)
    for start in range(0, size.points, _BLOCK):
        block = points[start : start + _BLOCK]
        noise = _units(rng.standard_normal(block.shape, np.float32))
        block[:] = _units(
            means[rng.integers(topics, size=len(block))] + _SPREAD * noise
        )
    return points


def _units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _timed(work: Callable[..., _T], *arguments: Any) -> tuple[_T, float]:
    start = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - start


def _cells(seconds: float, size: Size) -> tuple[float, float]:
    return seconds, size.points / seconds
