"""What an alignment moves between the devices of a mesh."""

import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from dga_jax import sharding
from dga_jax.benchmark.collectives import collective_bytes
from dga_jax.benchmark.tables import Table
from dga_jax.benchmark.variants import (
    Size,
    alignments,
    row_loss,
    shapes,
    vmapped_gradients,
)

_FORCED_DEVICES = 8


def traffic_table(size: Size) -> Table:
    """Bytes that collectives deliver to each device, from the compiled programs.

    Where there is one device, a child process compiles for eight that it makes of the
    CPU.
    """
    if jax.device_count() > 1:
        return _traffic(size)
    with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), _force_devices
    ) as child:
        return child.submit(_traffic, size).result()


def _force_devices() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", _FORCED_DEVICES)


def _traffic(size: Size) -> Table:
    count = jax.device_count()
    size = dataclasses.replace(size, domains=2 * count, rows=count)
    meshes = [sharding.make_mesh(1, count)]
    if count % 4 == 0:
        meshes.append(sharding.make_mesh(2, count // 2))
    rows = {}
    for mesh in meshes:
        forward, reverse = _moved(size, mesh)
        name = f"mesh.data={mesh.shape['data']} mesh.fsdp={mesh.shape['fsdp']}"
        rows[name] = (forward, reverse, forward / reverse, _parameters(size, mesh))
    return Table(
        f"alignment on {count} devices ({jax.devices()[0].device_kind}): MB that "
        f"collectives deliver to each, {size.domains} domains x {size.rows} rows x "
        f"{size.seq_len} tokens",
        ("forward mode", "vmap(grad)", "ratio", "all parameters"),
        rows,
    )


def _moved(size: Size, mesh: Mesh) -> tuple[float, float]:
    """MB by (forward mode, vmap(grad))."""
    loss = row_loss(size.model, sharding.constrain_probe_rows(mesh, size.rows))

    def megabytes(function: Callable) -> float:
        whole = jax.jit(function, out_shardings=sharding.replicated(mesh))
        program = whole.lower(*shapes(size, mesh)).compile()
        return collective_bytes(program.as_text()) / 1e6

    return megabytes(alignments(loss)), megabytes(vmapped_gradients(loss))


def _parameters(size: Size, mesh: Mesh) -> float:
    """MB of float32."""
    params, _, _ = shapes(size, mesh)
    return sum(leaf.size * 4 for leaf in jax.tree.leaves(params)) / 1e6
