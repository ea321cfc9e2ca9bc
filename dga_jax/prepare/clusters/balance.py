"""Prices under which no cluster has more than its share of a group's points."""

import jax
import jax.numpy as jnp
import numpy as np

from dga_jax.prepare.clusters.blocks import Blocks, costs

_ROUNDS = 200
# A price rises by this share of a mean distance more than it must, less by this factor
# in each next round: much at first, so that clusters do not pass the same points to and
# fro in small steps, then little, so that hardly more leave than must.
_TICK, _DECAY = 0.1, 0.97


def crowds(points: np.ndarray, groups: np.ndarray, limit_G: np.ndarray) -> np.ndarray:
    """Which of the points [n] are equal to more points than their group's limit."""
    hashes = np.fromiter((hash(x.tobytes()) for x in points), np.int64, len(points))
    _, kind_n, count = np.unique(hashes, return_inverse=True, return_counts=True)
    return count[kind_n] > limit_G[groups]


def balance(
    blocks: Blocks,
    groups_NxB: np.ndarray,
    centroids_GxKxd: jax.Array,
    prices_GxK: np.ndarray,
    limit_G: np.ndarray,
    *,
    scale: float,
    mesh: jax.sharding.Mesh,
) -> np.ndarray:
    """Raises prices until no cluster has more points than its group's limit.

    An auction (Bertsekas 1988) from the side of the clusters: one with too many points
    raises its price until so many are gone as are too many, those that lose least by
    it. The rounds are bounded.

    Args:
      blocks: points.
      groups_NxB: int64, groups of the rows whose points count; -1 for the others, which
        go where they are cheapest.
      centroids_GxKxd: stay as they are.
      prices_GxK: float32, to begin with.
      limit_G: int64; its K-fold is at least the number of points of the group.
      scale: mean squared distance of a point to its centroid.
      mesh: that the blocks are on.

    Returns:
      Prices float32 [G, K], the least of each group 0.
    """
    G, K = prices_GxK.shape
    costs_NxBxK = costs(blocks, centroids_GxKxd, mesh=mesh)
    counted_NxB = groups_NxB >= 0
    group_n = groups_NxB[counted_NxB]
    prices_GxK, limit_C = prices_GxK.copy(), np.repeat(limit_G, K)
    for i in range(_ROUNDS):
        label_NxB, margin_NxB = _choices(costs_NxBxK, blocks.group_N, prices_GxK)
        cluster_n = group_n * K + np.asarray(label_NxB)[counted_NxB]
        crowded_C = np.bincount(cluster_n, minlength=G * K) > limit_C
        if not crowded_C.any():
            break
        (mine_n,) = np.nonzero(crowded_C[cluster_n])
        margin_n = np.asarray(margin_NxB)[counted_NxB][mine_n]
        prices_GxK.reshape(-1)[crowded_C] += (
            _rises(cluster_n[mine_n], margin_n, limit_C) + scale * _TICK * _DECAY**i
        )
    return prices_GxK - prices_GxK.min(axis=1, keepdims=True)


@jax.jit
def _choices(
    costs_NxBxK: jax.Array, group_N: jax.Array, prices_GxK: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """Of each row the cheapest cluster, and how much more the next one costs."""
    costs_NxBxK = costs_NxBxK + prices_GxK[group_N][:, None]
    label_NxB = jnp.argmin(costs_NxBxK, axis=-1)
    others = label_NxB[..., None] != jnp.arange(costs_NxBxK.shape[-1])
    second_NxB = jnp.min(costs_NxBxK, axis=-1, where=others, initial=jnp.inf)
    return label_NxB, second_NxB - jnp.min(costs_NxBxK, axis=-1)


def _rises(
    cluster_n: np.ndarray, margin_n: np.ndarray, limit_C: np.ndarray
) -> np.ndarray:
    """For each cluster here, in order, the margin of the last point that must leave."""
    order = np.lexsort((margin_n, cluster_n))
    crowded, first, count = np.unique(
        cluster_n[order], return_index=True, return_counts=True
    )
    return margin_n[order][first + count - limit_C[crowded] - 1]
