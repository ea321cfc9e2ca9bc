"""One level of a tree: many independent k-means problems at once, over a mesh.

Squared Euclidean distance throughout. Centroids are improved as in Lloyd 1982, from
the start of Arthur and Vassilvitskii 2007 (k-means++) or from random points.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from dga_jax import sharding
from dga_jax.prepare.clusters.balance import balance, crowds
from dga_jax.prepare.clusters.blocks import Blocks, cut, nearest, sums

# Rounds of means under prices, and what is kept of prices after each: centroids move
# to where they are needed, and need less of a price then.
_BALANCED_MEANS, _KEPT = 10, np.float32(0.8)


class Level(NamedTuple):
    """What `fit` found: for each of G groups, K clusters.

    Attributes:
      centroids: float32 [G, K, d]; those of absent clusters mean nothing.
      prices: float32 [G, K], added to a point's squared distance before the least is
        taken; 0 without a bound on imbalance, inf for a cluster that is absent.
      counts: points in each cluster, int64 [G, K]; 0 for one that is absent.
      inertia: sum of the squared distances of all points to their centroids.
    """

    centroids: np.ndarray
    prices: np.ndarray
    counts: np.ndarray
    inertia: float


@functools.partial(jax.jit, static_argnames=("num_groups", "k", "mesh"))
def _plus_plus(
    blocks: Blocks, key: jax.Array, *, num_groups: int, k: int, mesh: Mesh
) -> jax.Array:
    """k-means++: each next centroid is a point, drawn in proportion to its distance.

    All groups draw in lockstep, each the largest of log D² + Gumbel noise. The noise
    belongs to a block's place, so that it does not depend on the number of devices.
    Once every distance is 0, points are repeated; no other point is nearest to those.
    """
    axes = mesh.axis_names

    def of_device(blocks: Blocks) -> jax.Array:
        N, B, d = blocks.x_NxBxd.shape
        place_N = jax.lax.axis_index(axes) * N + jnp.arange(N)

        def draw(
            step: jax.Array, carry: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            nearest_NxB, centroids_KxGxd = carry
            keys_N = jax.vmap(jax.random.fold_in, (None, 0))(
                jax.random.fold_in(key, step), place_N
            )
            noise_NxB = jax.vmap(lambda key: jax.random.gumbel(key, (B,)))(keys_N)
            # The first draw is even: all distances are still infinite.
            score_NxB = jnp.log(jnp.minimum(nearest_NxB, 1e30)) + noise_NxB
            point_Gxd = _best_points(blocks, score_NxB, place_N, num_groups, axes)
            offset_NxBxd = blocks.x_NxBxd - point_Gxd[blocks.group_N][:, None]
            nearest_NxB = jnp.minimum(nearest_NxB, jnp.sum(offset_NxBxd**2, axis=-1))
            return nearest_NxB, centroids_KxGxd.at[step].set(point_Gxd)

        nearest_NxB = jnp.where(blocks.valid_NxB, jnp.inf, 0)
        start = (nearest_NxB, jnp.zeros((k, num_groups, d)))
        return jax.lax.fori_loop(0, k, draw, start)[1]

    centroids_KxGxd = jax.shard_map(
        of_device, mesh=mesh, in_specs=P(axes), out_specs=P(), check_vma=False
    )(blocks)
    return jnp.swapaxes(centroids_KxGxd, 0, 1)


def _best_points(
    blocks: Blocks,
    score_NxB: jax.Array,
    place_N: jax.Array,
    num_groups: int,
    axes: tuple[str, ...],
) -> jax.Array:
    """Of each group the point of the highest score on any device: [G, d].

    Zeros for a group without points.
    """
    best_N = jnp.max(score_NxB, axis=1)
    best_G = jax.ops.segment_max(best_N, blocks.group_N, num_groups)
    best_G = jax.lax.pmax(best_G, axes)
    is_best_N = (best_N == best_G[blocks.group_N]) & (blocks.size_N > 0)
    place_G = jax.ops.segment_min(
        jnp.where(is_best_N, place_N, jnp.iinfo(jnp.int32).max),
        blocks.group_N,
        num_groups,
    )
    here_G = jax.lax.pmin(place_G, axes) - place_N[0]
    mine_G = (here_G >= 0) & (here_G < len(place_N))
    here_G = jnp.where(mine_G, here_G, 0)
    point_Gxd = blocks.x_NxBxd[here_G, jnp.argmax(score_NxB, axis=1)[here_G]]
    return jax.lax.psum(jnp.where(mine_G[:, None], point_Gxd, 0), axes)


def _random_points(
    points: np.ndarray, groups: np.ndarray, num_groups: int, k: int, seed: int
) -> np.ndarray:
    """Of each group k random points; zeros where it has fewer."""
    noise = np.random.default_rng(seed).random(len(groups))
    order = np.lexsort((noise, groups))
    count_G = np.bincount(groups, minlength=num_groups)
    rank = np.arange(len(order)) - (np.cumsum(count_G) - count_G)[groups[order]]
    order, rank = order[rank < k], rank[rank < k]
    centroids_GxKxd = np.zeros((num_groups, k, points.shape[1]), np.float32)
    centroids_GxKxd[groups[order], rank] = points[order]
    return centroids_GxKxd


@functools.partial(jax.jit, static_argnames="split")
def _means(
    centroids_GxKxd: jax.Array,
    sums_GxKxd: jax.Array,
    counts_GxK: jax.Array,
    split: bool,
) -> jax.Array:
    """Means of clusters; with `split` the empty ones take part of the largest.

    The e-th empty cluster of a group gets a copy of its e-th largest's centroid, every
    coordinate a little larger or smaller in turn, as in faiss (Johnson, Douze and Jégou
    2017). There the original moves too; here it stays, so that inertia never rises.
    """
    means_GxKxd = jnp.where(
        counts_GxK[..., None] > 0,
        sums_GxKxd / jnp.maximum(counts_GxK, 1)[..., None],
        centroids_GxKxd,
    )
    if not split:
        return means_GxKxd
    empty_GxK = counts_GxK == 0
    largest_GxK = jnp.argsort(-counts_GxK, axis=1)
    turn_GxK = jnp.maximum(jnp.cumsum(empty_GxK, axis=1) - 1, 0)
    from_GxK = jnp.take_along_axis(largest_GxK, turn_GxK, axis=1)
    sign_d = 1 - 2 * (jnp.arange(sums_GxKxd.shape[2]) % 2)
    copies = jnp.take_along_axis(means_GxKxd, from_GxK[..., None], axis=1)
    return jnp.where(empty_GxK[..., None], copies * (1 + sign_d / 1024), means_GxKxd)


def fit(
    points: np.ndarray,
    groups: np.ndarray,
    num_groups: int,
    k: int,
    *,
    start: str = "kmeans++",
    iterations: int = 25,
    tolerance: float = 1e-4,
    max_imbalance: float = 0.0,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Level:
    """K-means in each of many groups of points.

    The host holds all points (1.5 GB for 1M of width 384), each device its share of
    them and all centroids.

    Args:
      points: float32 [n, d].
      groups: int64 [n], in [0, num_groups); a group may be empty.
      num_groups: G.
      k: K, clusters of each group. Where a group has fewer distinct points, the rest of
        its clusters is absent.
      start: "kmeans++", or "sample": k random points.
      iterations: of Lloyd, at most.
      tolerance: they end when inertia falls by less than this share of it.
      max_imbalance: most points of a cluster over the mean of the k clusters of its
        group (0: no bound). Prices keep to it, unless they are not found in a bounded
        number of rounds; `counts` say what was reached. Equal points stay together:
        more of them than a cluster may hold do not count.
      seed: of the start.
      mesh: blocks of points are spread over all its devices; all devices unless given.
    """
    mesh = mesh or sharding.make_mesh()
    blocks, rows_NxB = cut(points, groups, num_groups, mesh)
    if start == "kmeans++":
        key = jax.random.key(seed)
        centroids = _plus_plus(blocks, key, num_groups=num_groups, k=k, mesh=mesh)
    else:
        centroids = _random_points(points, groups, num_groups, k, seed)
    prices = np.zeros((num_groups, k), np.float32)
    centroids, inertia = _lloyd(blocks, centroids, iterations, tolerance, mesh)
    if max_imbalance:
        count_G = np.bincount(groups, minlength=num_groups)
        limit_G = np.maximum(max_imbalance * count_G // k, -(-count_G // k)).astype(int)
        counted = ~crowds(points, groups, limit_G)[rows_NxB] & (rows_NxB >= 0)
        auction = functools.partial(
            balance,
            blocks,
            np.where(counted, groups[rows_NxB], -1),
            limit_G=limit_G,
            scale=inertia / max(len(points), 1),
            mesh=mesh,
        )
        prices = auction(centroids, prices)
        for _ in range(_BALANCED_MEANS):
            totals, counts, _ = sums(blocks, centroids, prices, mesh=mesh)
            centroids = _means(centroids, totals, counts, split=False)
            prices = auction(centroids, _KEPT * prices)
    _, counts, inertia_G = sums(blocks, centroids, prices, mesh=mesh)
    counts = np.asarray(counts, np.int64)
    return Level(
        np.asarray(centroids),
        np.where(counts > 0, prices, np.float32(np.inf)),
        counts,
        float(np.asarray(inertia_G, np.float64).sum()),
    )


def _lloyd(
    blocks: Blocks,
    centroids: jax.Array,
    iterations: int,
    tolerance: float,
    mesh: Mesh,
) -> tuple[jax.Array, float]:
    """Centroids after some rounds of assignments and means, and the last inertia."""
    prices = np.zeros(centroids.shape[:2], np.float32)
    before = np.inf
    for i in range(iterations):
        totals, counts, inertia_G = sums(blocks, centroids, prices, mesh=mesh)
        now = float(np.asarray(inertia_G, np.float64).sum())
        # Copies of centroids are worth something only if points are assigned to them.
        last = i + 1 == iterations or before - now <= tolerance * before < np.inf
        centroids = _means(centroids, totals, counts, split=not last)
        if last:
            break
        before = now
    return centroids, now


def assign(
    points: np.ndarray,
    groups: np.ndarray,
    centroids_GxKxd: np.ndarray,
    prices_GxK: np.ndarray,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """The cluster of each point among those of its group: int64 [n], in [0, K).

    Args:
      points: float32 [n, d].
      groups: int64 [n], in [0, G).
      centroids_GxKxd: as in `Level`.
      prices_GxK: likewise; inf where no point may go.
      mesh: to compute on; all devices unless given.
    """
    mesh = mesh or sharding.make_mesh()
    blocks, rows_NxB = cut(points, groups, len(centroids_GxKxd), mesh, rounded=True)
    label_NxB = nearest(blocks, centroids_GxKxd, prices_GxK, mesh=mesh)
    is_point_NxB = rows_NxB >= 0
    labels = np.empty(len(points), np.int64)
    labels[rows_NxB[is_point_NxB]] = np.asarray(label_NxB)[is_point_NxB]
    return labels
