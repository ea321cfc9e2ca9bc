"""Where a run is computed: a mesh on which it fits, and what is said of it.

The estimate is of what XLA holds at once, rounded up: float32 copies of the parameters,
which the mesh's `fsdp` and `tensor` share, and activations of a microbatch, which they
do not grow with. It decides a default; compiling tells the truth.
"""

import math
from collections.abc import Sequence

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dga_jax import sharding
from dga_jax.model.loss import Head
from dga_jax.model.transformer import ModelConfig, parameter_count
from dga_jax.training import config as configs
from dga_jax.training import distributed
from dga_jax.training.suited import loss_head

# Parameters, Adam's two moments, a gradient, and the sum of several parts' gradients.
_COPIES = 5
# Of a device's memory, what the estimate may take up.
_FILLED = 0.9
# Scores of one layer that are held at a time where XLA computes attention, as for the
# target's gradient: weights, and the gradients of both, float32.
_SCORES = 3
_LOGITS = 3  # of a chunk: they, their exponentials and their gradient, float32


def fitting_fsdp(
    parameter_bytes: float,
    memory: float | None,
    devices: int,
    *,
    tensor: int = 1,
    activations: float = 0.0,
    width: int = 0,
) -> int:
    """The size of `fsdp` with which a run fits into the memory of a device.

    Where all parameters fit, 1. Else as many devices share them as can: with few, as
    much would be held and moved as just fits, and microbatches would have to be small.

    Args:
      parameter_bytes: of all parameters, in float32.
      memory: bytes of a device; None: not known, and 1 is taken.
      devices: that there are.
      tensor: size of the mesh's axis of this name.
      activations: bytes of a device, whatever the mesh.
      width: D, which `fsdp` has to divide to share anything; 0: any does.

    Returns:
      1, or the greatest divisor of devices / tensor and of the width.
    """
    if memory is None:
        return 1
    if needed_bytes(parameter_bytes, tensor, activations) <= _FILLED * memory:
        return 1
    return math.gcd(max(devices // tensor, 1), width)


def needed_bytes(
    parameter_bytes: float, shards: int, activations: float = 0.0
) -> float:
    """About what a device holds, bytes.

    Args:
      parameter_bytes: of all parameters, in float32.
      shards: into how many parts they are cut.
      activations: bytes of a device.
    """
    return _COPIES * parameter_bytes / shards + activations


def activation_bytes(
    model: ModelConfig, rows: int, length: int, chunk: int, tensor: int = 1
) -> float:
    """About what a device holds beside copies of the parameters, bytes.

    Args:
      model: the architecture.
      rows: of a microbatch on one device.
      length: L.
      chunk: positions whose logits are held at a time.
      tensor: size of the mesh's axis of this name.
    """
    tokens, item = rows * length, 2 if model.dtype == "bfloat16" else 4
    inside = tokens * (6 * model.d_model + 3 * model.d_ff / tensor) * item
    scores = 4 * rows * model.num_heads / tensor * length**2
    kept = tokens * model.d_model * item
    if model.remat == "dots":
        grouped = 2 * model.num_kv_heads / model.num_heads  # keys and values
        heads = model.num_heads * model.head_width
        cut = heads * (1 + grouped) + 2 * model.d_ff
        kept += tokens * (2 * model.d_model + cut / tensor) * item
    elif model.remat == "none":
        kept = inside + scores
    logits = 4 * rows * min(chunk, length) * model.vocab_size / tensor
    return model.num_layers * kept + inside + _SCORES * scores + _LOGITS * logits


def make_mesh(
    config: ConfigDict,
    devices: Sequence[jax.Device] | None = None,
    memory: float | None = None,
) -> Mesh:
    """The mesh of a run; what the config leaves open is chosen so that the run fits.

    Args:
      config: of a run, with what the store decides filled in.
      devices: to use; all there are, unless given.
      memory: bytes of a device; unless given, asked of the devices of process 0, so
        that all processes choose the same.

    Raises:
      UserError: the config's sizes make no mesh of the devices.
    """
    devices = jax.devices() if devices is None else devices
    if memory is None:  # always, as all processes have to ask
        memory = distributed.broadcast(device_memory(devices))
    data, fsdp, tensor = config.mesh.data, config.mesh.fsdp, config.mesh.tensor
    slices = config.mesh.slices
    if slices == -1:
        slices = sharding.count_slices(devices)
    if fsdp == -1:
        fsdp = 1
        others = max(data, 1) * max(tensor, 1)
        if data != -1:
            fsdp = len(devices) // others if len(devices) % others == 0 else 1
        elif len(devices) > others:
            fsdp = fitting_fsdp(
                4 * parameter_count(configs.model_config(config)),
                memory,
                len(devices) // max(slices, 1),
                tensor=max(tensor, 1),
                activations=_activations(config, len(devices), max(tensor, 1)),
                width=config.model.d_model,
            )
    return sharding.make_mesh(data, fsdp, tensor, devices, slices)


def describe(config: ConfigDict, mesh: Mesh, memory: float | None = None) -> str:
    """The mesh, memory, kernel of attention and loss of a run, on one line.

    Args:
      config: of the run.
      mesh: of the run.
      memory: bytes of a device; asked of the devices, unless given.
    """
    memory = memory or device_memory(mesh.devices.flat)
    tensor = mesh.shape["tensor"]
    needed = needed_bytes(
        4 * parameter_count(configs.model_config(config)),
        mesh.shape["fsdp"] * tensor,
        _activations(config, mesh.size, tensor),
    )
    sizes = " x ".join(f"{axis} {mesh.shape[axis]}" for axis in sharding.AXES)
    kernel, why = configs.attention_kernel(config, mesh)
    held, tight = f"about {needed / 1e9:.1f}", ""
    if memory is not None:
        held += f" of {memory / 1e9:.1f}"
        if needed > memory:
            tight = " (it may not fit: raise train.microbatches or mesh.tensor)"
    return (
        f"mesh: {sizes}: {held} GB a device{tight}; attention: {kernel}"
        f"{f' ({why})' if why else ''}{loss_in_parts(config, mesh)}"
    )


def loss_in_parts(config: ConfigDict, mesh: Mesh) -> str:
    """How the loss of a microbatch is spread over `fsdp`; "" where that is 1."""
    if mesh.shape["fsdp"] == 1:
        return ""
    rows = config.train.batch_size // config.train.microbatches
    sizes = rows, config.train.seq_len, config.model.vocab_size
    parts = loss_head(mesh)(*sizes).shards
    in_parts = parts > mesh.shape["tensor"]
    return f"; loss: {f'vocabulary in {parts} parts' if in_parts else 'by rows'}"


def device_memory(devices: Sequence[jax.Device]) -> float | None:
    """Bytes that a program may use on the smallest of this process's devices.

    None where it is not known, as on CPU.
    """
    limits = []
    for device in devices:
        if device.process_index != jax.process_index():
            continue
        try:
            limits.append((device.memory_stats() or {}).get("bytes_limit"))
        except jax.errors.JaxRuntimeError:  # of a topology that is not there
            limits.append(None)
    return min(limits) if limits and None not in limits else None


def _activations(config: ConfigDict, devices: int, tensor: int) -> float:
    per_microbatch = config.train.batch_size // config.train.microbatches
    rows = -(-per_microbatch * tensor // devices)
    model, length = configs.model_config(config), config.train.seq_len
    fits = Head(shards=tensor).chunk(rows, length, model.vocab_size)
    chunk = config.train.loss_chunk or fits
    return activation_bytes(model, rows, length, chunk, tensor)
