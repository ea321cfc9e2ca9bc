"""Points of many groups as blocks: static shapes, however uneven the groups are.

Points are sorted by group and cut into N blocks of B rows, each of one group, so that
all work is batched matrix products of blocks with the centroids of their groups. Blocks
are sharded over all devices of a mesh, centroids are on every one.

Distances are squared Euclidean. A point's cost of a cluster is its distance plus the
cluster's price.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dga_jax import sharding

# Rows whose distances to K centroids are in memory at once, on each device: on a CPU
# what its caches hold.
_CHUNK_CPU, _CHUNK = 1 << 12, 1 << 16
_Sums = tuple[jax.Array, jax.Array, jax.Array]
einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class Blocks(NamedTuple):
    """Points by group: rows of N blocks, of which the first `size` are not padding."""

    x_NxBxd: jax.Array
    group_N: jax.Array
    size_N: jax.Array

    @property
    def valid_NxB(self) -> jax.Array:
        """Which rows are points: bool [N, B]."""
        return jnp.arange(self.x_NxBxd.shape[1]) < self.size_N[:, None]


def cut(
    points: np.ndarray,
    groups: np.ndarray,
    num_groups: int,
    mesh: Mesh,
    rounded: bool = False,
) -> tuple[Blocks, np.ndarray]:
    """Blocks on the mesh, and which point each of their rows is: int64 [N, B].

    -1 for padding. With `rounded` the number of blocks is one of few, so that little is
    compiled anew for other points.

    B is a power of two near half a group's mean size: larger ones would be padding,
    smaller ones read the group's centroids more often.
    """
    count_G = np.bincount(groups, minlength=num_groups)
    mean = len(groups) / max(np.count_nonzero(count_G), 1)
    B = 1 << int(np.clip(np.log2(mean / 2), 4, 10))
    blocks_G = -(-count_G // B)
    group_N = np.repeat(np.arange(num_groups), blocks_G)
    first_N = (np.arange(len(group_N)) - (np.cumsum(blocks_G) - blocks_G)[group_N]) * B
    size_N = np.minimum(count_G[group_N] - first_N, B)
    start_N = (np.cumsum(count_G) - count_G)[group_N] + first_N
    # Whole chunks on every device.
    chunk = max(_chunk(mesh) // B, 1)
    per_device = -(-len(group_N) // mesh.size)
    if rounded:
        step = max(1 << per_device.bit_length() >> 3, 1)
        per_device = -(-per_device // step) * step
    per_device = -(-per_device // chunk) * chunk if per_device > chunk else per_device
    extra = (0, max(per_device, 1) * mesh.size - len(group_N))
    group_N, size_N, start_N = (np.pad(a, extra) for a in (group_N, size_N, start_N))
    offset_NxB = np.minimum(np.arange(B), np.maximum(size_N - 1, 0)[:, None])
    order = np.argsort(groups, kind="stable")
    rows_NxB = order[start_N[:, None] + offset_NxB]
    is_point_NxB = np.arange(B) < size_N[:, None]
    sharded = NamedSharding(mesh, P(mesh.axis_names))
    shape = (*rows_NxB.shape, points.shape[1])
    x_NxBxd = jax.make_array_from_callback(
        shape, sharded, lambda i: np.asarray(points[rows_NxB[i[0]]], np.float32)
    )
    group_N, size_N = (
        jax.device_put(a.astype(np.int32), sharded) for a in (group_N, size_N)
    )
    return Blocks(x_NxBxd, group_N, size_N), np.where(is_point_NxB, rows_NxB, -1)


def _chunk(mesh: Mesh) -> int:
    return _CHUNK_CPU if sharding.platform(mesh) == "cpu" else _CHUNK


def _chunks(blocks: Blocks, mesh: Mesh) -> Blocks:
    """Blocks of one device with a leading axis to scan over."""
    N, B, _ = blocks.x_NxBxd.shape
    size = min(max(_chunk(mesh) // B, 1), N)
    return jax.tree.map(lambda a: a.reshape(N // size, size, *a.shape[1:]), blocks)


def _costs(
    blocks: Blocks, centroids_GxKxd: jax.Array, bias_GxK: jax.Array
) -> jax.Array:
    """|x - c|² - |x|² + price for every row and centroid of its group, [N, B, K]."""
    products = einsum("nbd,nkd->nbk", blocks.x_NxBxd, centroids_GxKxd[blocks.group_N])
    return bias_GxK[blocks.group_N][:, None] - 2 * products


def _bias(centroids_GxKxd: jax.Array, prices_GxK: jax.Array) -> jax.Array:
    return jnp.sum(centroids_GxKxd**2, axis=-1) + prices_GxK


@functools.partial(jax.jit, static_argnames="mesh")
def sums(
    blocks: Blocks, centroids_GxKxd: jax.Array, prices_GxK: jax.Array, *, mesh: Mesh
) -> _Sums:
    """Of each cluster the sum of its points and their number; of each group inertia."""
    K = centroids_GxKxd.shape[1]

    def of_device(
        blocks: Blocks, centroids_GxKxd: jax.Array, prices_GxK: jax.Array
    ) -> _Sums:
        bias_GxK = _bias(centroids_GxKxd, prices_GxK)

        def add(totals: _Sums, blocks: Blocks) -> tuple[_Sums, None]:
            costs_NxBxK = _costs(blocks, centroids_GxKxd, bias_GxK)
            label_NxB = jnp.argmin(costs_NxBxK, axis=-1)
            member_NxBxK = (label_NxB[..., None] == jnp.arange(K)) & (
                blocks.valid_NxB[..., None]
            )
            price_NxB = jnp.take_along_axis(
                prices_GxK[blocks.group_N], label_NxB, axis=1
            )
            distances_NxB = jnp.sum(blocks.x_NxBxd**2, axis=-1) + (
                jnp.min(costs_NxBxK, axis=-1) - price_NxB
            )
            found = (
                einsum(
                    "nbk,nbd->nkd",
                    member_NxBxK.astype(blocks.x_NxBxd.dtype),
                    blocks.x_NxBxd,
                ),
                jnp.sum(member_NxBxK, axis=1, dtype=jnp.int32),
                jnp.sum(jnp.maximum(distances_NxB, 0), axis=1, where=blocks.valid_NxB),
            )
            return jax.tree.map(
                lambda total, part: total.at[blocks.group_N].add(part), totals, found
            ), None

        zeros = (
            jnp.zeros_like(centroids_GxKxd),
            jnp.zeros(prices_GxK.shape, jnp.int32),
            jnp.zeros(len(prices_GxK)),
        )
        totals, _ = jax.lax.scan(add, zeros, _chunks(blocks, mesh))
        return jax.lax.psum(totals, mesh.axis_names)

    return jax.shard_map(
        of_device,
        mesh=mesh,
        in_specs=(P(mesh.axis_names), P(), P()),
        out_specs=P(),
        check_vma=False,
    )(blocks, centroids_GxKxd, prices_GxK)


@functools.partial(jax.jit, static_argnames="mesh")
def costs(blocks: Blocks, centroids_GxKxd: jax.Array, *, mesh: Mesh) -> jax.Array:
    """Of each row, with every cluster, the cost without prices: float32 [N, B, K].

    Less |x|², which is the same for all.
    """
    free = jnp.zeros(centroids_GxKxd.shape[:2])
    return _by_chunks(lambda costs: costs, blocks, centroids_GxKxd, free, mesh)


@functools.partial(jax.jit, static_argnames="mesh")
def nearest(
    blocks: Blocks, centroids_GxKxd: jax.Array, prices_GxK: jax.Array, *, mesh: Mesh
) -> jax.Array:
    """The cluster of each row that costs least: int32 [N, B]."""
    return _by_chunks(
        lambda costs: jnp.argmin(costs, axis=-1),
        blocks,
        centroids_GxKxd,
        prices_GxK,
        mesh,
    )


def _by_chunks(
    function: Callable[[jax.Array], jax.Array],
    blocks: Blocks,
    centroids_GxKxd: jax.Array,
    prices_GxK: jax.Array,
    mesh: Mesh,
) -> jax.Array:
    """`function` of the costs [n, B, K] of each chunk, for all blocks [N, B, ...]."""

    def of_device(
        blocks: Blocks, centroids_GxKxd: jax.Array, prices_GxK: jax.Array
    ) -> jax.Array:
        bias_GxK = _bias(centroids_GxKxd, prices_GxK)
        found = jax.lax.map(
            lambda chunk: function(_costs(chunk, centroids_GxKxd, bias_GxK)),
            _chunks(blocks, mesh),
        )
        return found.reshape(-1, *found.shape[2:])

    sharded = P(mesh.axis_names)
    return jax.shard_map(
        of_device, mesh=mesh, in_specs=(sharded, P(), P()), out_specs=sharded
    )(blocks, centroids_GxKxd, prices_GxK)
