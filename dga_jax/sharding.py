"""The mesh, where parameters lie on it, and how batches are placed.

Three axes: `data` replicates parameters, `fsdp` shards them and the batch, `tensor`
shards the inside of layers. Any product of sizes is a mesh; every one computes the same
loss to rounding, on the same rows.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dga_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

# Logical axes of parameters (see model.transformer.LOGICAL_AXES) to mesh axes.
RULES = {
    "embed": "fsdp",
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
}


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
    slices: int = 1,
) -> Mesh:
    """A mesh over all devices; `data=-1` takes those that the other axes leave.

    Several slices are networks of their own with a slow one between them: `data` alone
    lies across them, so that nothing but sums over the batch crosses it.

    Args:
      data: size of the axis.
      fsdp: that of this one.
      tensor: and of this one.
      devices: to use; all there are, unless given.
      slices: how many there are; see `count_slices`.

    Raises:
      UserError: sizes below 1, a product that is not the number of devices, or devices
        that JAX cannot lay out so.
    """
    devices = jax.devices() if devices is None else devices
    for name, size in (("fsdp", fsdp), ("tensor", tensor)):
        if size < 1:
            raise UserError(f"mesh.{name}={size}: must be at least 1")
    if data == -1:
        data = max(len(devices) // (fsdp * tensor), 1)
    if data < 1 or data * fsdp * tensor != len(devices):
        raise UserError(
            f"mesh.data={data} x mesh.fsdp={fsdp} x mesh.tensor={tensor} is not the "
            f"{len(devices)} devices here; leave mesh.data at -1 to take the rest"
        )
    groups = _slices(devices, slices)
    if data % slices:
        raise UserError(
            f"mesh.data={data}: only data lies across the {slices} slices, so it must "
            f"be a multiple of {slices}; lower mesh.fsdp or mesh.tensor"
        )
    sizes = data // slices, fsdp, tensor
    try:
        # On some TPUs sizes fit only if an axis of the torus may be split.
        parts = [
            mesh_utils.create_device_mesh(sizes, group, allow_split_physical_axes=True)
            for group in groups
        ]
    except AssertionError as error:  # so it says that chips are not a cuboid
        raise UserError(
            f"mesh.data={data} x mesh.fsdp={fsdp} x mesh.tensor={tensor}: JAX cannot "
            f"lay {len(devices)} x {devices[0].device_kind} out so ({error}); choose "
            "sizes that are products of the topology's"
        ) from None
    types = (AxisType.Auto,) * len(AXES)
    return Mesh(np.concatenate(parts), AXES, axis_types=types)


def count_slices(devices: Sequence[jax.Device]) -> int:
    """How many TPU slices the devices are of; others are one.

    A GPU says that each host is a slice; between hosts there may be a fast network.
    """
    if devices[0].platform != "tpu":
        return 1
    return len({getattr(device, "slice_index", 0) for device in devices})


def _slices(devices: Sequence[jax.Device], count: int) -> list[list[jax.Device]]:
    """The devices slice by slice: as they say, or in equal parts, hosts kept whole."""
    if count < 1 or len(devices) % count:
        raise UserError(
            f"mesh.slices={count} does not divide the {len(devices)} devices here; "
            "leave it at -1 to take the TPU slices that there are"
        )
    ordered, size = list(devices), len(devices) // count
    if count > 1:
        indices = {getattr(device, "slice_index", None) for device in devices}
        by = "slice_index" if len(indices) == count else "process_index"
        ordered.sort(key=lambda device: getattr(device, by) or 0)
    groups = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    if max(map(count_slices, groups)) > 1:
        raise UserError(
            f"mesh.slices={count}: the devices here are of {count_slices(devices)} TPU "
            "slices; leave it at -1 to take them"
        )
    return groups


def platform(mesh: Mesh) -> str:
    """Of the mesh's devices, which need not be those of this process."""
    return mesh.devices.flat[0].platform


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(mesh, P())


def tree_shardings(
    mesh: Mesh, shapes: Any, logical_axes: dict[tuple[str, ...], tuple[str, ...]]
) -> Any:
    """Shardings for a pytree of shapes whose paths end as parameter paths do.

    Optimizer moments repeat the parameters' paths, so that one table serves both. An
    axis is sharded only where the mesh divides it; what the table lacks is replicated.

    Args:
      mesh: the mesh.
      shapes: pytree of `jax.ShapeDtypeStruct`.
      logical_axes: path ending to the logical names of the last axes.
    """

    def sharding(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        names = tuple(
            str(getattr(key, "key", getattr(key, "name", ""))) for key in path
        )
        axes = logical_axes.get(names[-2:], ())
        spec = [None] * (len(leaf.shape) - len(axes))
        sizes = leaf.shape[len(spec) :]
        for axis, size in zip(axes, sizes, strict=True):
            mesh_axis = RULES[axis]
            spec.append(mesh_axis if size % mesh.shape[mesh_axis] == 0 else None)
        return NamedSharding(mesh, P(*spec))

    return jax.tree_util.tree_map_with_path(sharding, shapes)


def shards(mesh: Mesh, axes: Iterable[str]) -> int:
    """Into how many parts an array is cut that lies over these axes."""
    return math.prod(mesh.shape[axis] for axis in axes)


def multiple(count: int, parts: int) -> int:
    """The least multiple of `parts` that is not below."""
    return -(-count // parts) * parts


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts the rows of a batch are cut."""
    return shards(mesh, BATCH_AXES)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a train, eval or target batch: over `data` and `fsdp`."""
    return NamedSharding(mesh, P(BATCH_AXES))


def probe_sharding(mesh: Mesh, rows: int) -> NamedSharding:
    """Probe batches [k, b, ...]: domains over `data`, rows over `fsdp`.

    The two axes are kept apart: flattened into one, they would have to be resharded.
    Where `fsdp` does not divide the rows, domains lie over both, and rows are whole.
    """
    return NamedSharding(mesh, P(*_probe_axes(mesh, rows)))


def probe_shards(mesh: Mesh, rows: int) -> int:
    """Into how many parts domains of probe batches are cut; see `probe_sharding`."""
    return shards(mesh, _probe_axes(mesh, rows)[0])


def pinned_domain_axes(mesh: Mesh, rows: int) -> tuple[str, ...] | None:
    """The axes that domains have to be pinned to, of so many probe rows each.

    Where rows are not cut, the compiler would cut activations as the parameters are.
    """
    domains, of_rows = _probe_axes(mesh, rows)
    return None if of_rows else domains


def probe_row_axes(mesh: Mesh, rows: int) -> tuple[str, ...]:
    """The mesh's axes that the rows of a domain's probe batch lie over."""
    return _probe_axes(mesh, rows)[1]


def _probe_axes(mesh: Mesh, rows: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The mesh's axes that domains lie over, and those of their rows."""
    return (BATCH_AXES, ()) if rows % mesh.shape["fsdp"] else (("data",), ("fsdp",))


def constrain_rows(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    """Pins activations [B, ...] to the sharding of a batch.

    Without it the compiler may shard activations as the parameters are, and reduce
    them across the mesh instead of gathering the (smaller) parameters.
    """
    return constrain(mesh, BATCH_AXES)


def constrain_probe_rows(mesh: Mesh, rows: int) -> Callable[[jax.Array], jax.Array]:
    """The same for one domain's rows, so many; its domain axis is vmapped."""
    return constrain(mesh, probe_row_axes(mesh, rows))


def constrain_as(abstract: Any) -> Callable[[Any], Any]:
    """Pins a pytree to the shardings of another, such as gradients to the parameters'.

    Without it the compiler may hold them whole on every device.

    Args:
      abstract: pytree of arrays or `jax.ShapeDtypeStruct`, with shardings.
    """
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    return lambda tree: jax.lax.with_sharding_constraint(tree, shardings)


def constrain(mesh: Mesh, *axes: tuple[str, ...]) -> Callable[[jax.Array], jax.Array]:
    """Pins an array's leading dimensions to axes of the mesh, each to some.

    A dimension that these do not divide is whole, as are those that follow.
    """

    def pin(x: jax.Array) -> jax.Array:
        sizes = zip(x.shape, axes, strict=False)
        spec = P(
            *(over if size % shards(mesh, over) == 0 else None for size, over in sizes)
        )
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

    return pin


def local_rows(sharding: NamedSharding, rows: int) -> np.ndarray:
    """Which of `rows` leading entries this process's devices hold, bool [rows]."""
    held = np.zeros(rows, bool)
    for index in sharding.addressable_devices_indices_map((rows,)).values():
        held[index[0]] = True
    return held


def place(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """A global array from its host copy; entries of other processes are not read."""
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])
