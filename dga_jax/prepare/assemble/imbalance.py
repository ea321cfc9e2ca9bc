"""How even clusters are."""

import math

import numpy as np


def imbalance(counts: np.ndarray, branching: tuple[int, ...]) -> list[float]:
    """By level, the most documents of a cluster over the mean of its siblings.

    Of clusters with fewer documents than children are wanted nothing can be said; they
    do not count. 0 where no other is left.

    Args:
      counts: int64 [k], documents of the finest clusters.
      branching: children of each cluster by level.
    """
    found = []
    for level in range(len(branching)):
        finer = math.prod(branching[level + 1 :])
        counts_GxK = counts.reshape(-1, finer).sum(axis=1).reshape(-1, branching[level])
        large = counts_GxK[counts_GxK.sum(axis=1) >= branching[level]]
        ratios = large.max(axis=1) / large.mean(axis=1)
        found.append(float(ratios.max(initial=0)))
    return found
