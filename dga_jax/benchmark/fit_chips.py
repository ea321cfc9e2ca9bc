"""What chips can do, and TPUs that are compiled for without being there."""

import contextlib
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.experimental import topologies

from dga_jax.errors import UserError
from dga_jax.logs import perf

_GIB = 2**30


class Chip(NamedTuple):
    """One JAX device.

    Attributes:
      memory: bytes that a program may use.
      peak: dense bfloat16 FLOP/s, or None where it is not known.
      bandwidth: bytes a second of its memory, or None.
      network: bytes a second that it can send to others of the mesh, or None.
    """

    memory: float
    peak: float | None
    bandwidth: float | None
    network: float | None


class Target(NamedTuple):
    """What is compiled for.

    Attributes:
      name: as the flag has it.
      chip: each device.
      devices: that programs are compiled for.
      note: what the figures are not, if anything.
    """

    name: str
    chip: Chip
    devices: Sequence[jax.Device]
    note: str = ""


class _Tpu(NamedTuple):
    """Of one JAX device: memory, its bandwidth, what its part of a link sends.

    `ring` is the length from which a dimension of a topology closes to a ring, of which
    it has to be a multiple.
    """

    memory: float
    bandwidth: float
    link: float
    ring: int


# By device_kind. Memory: what the compiler of libtpu 0.0.50 lets a program use, by its
# error for one that is too large. The rest: docs.cloud.google.com/tpu/docs/ v5e, v5p,
# v6e and tpu7x, read in November 2026; "bidirectional ICI bandwidth per chip" is of 4
# links in two dimensions or of 6 in three, both ways: 400, 1200, 800 and 1200 GB/s. A
# TPU7x chip is two devices. The peak is in logs/perf.py.
_TPUS = {
    "TPU v5 lite": _Tpu(15.75 * _GIB, 819e9, 400e9 / 8, 16),
    "TPU v5": _Tpu(95.73 * _GIB, 2765e9, 1200e9 / 12, 4),
    "TPU v6 lite": _Tpu(31.24 * _GIB, 1638e9, 800e9 / 8, 16),
    "TPU7x": _Tpu(94.74 * _GIB, 7380e9 / 2, 1200e9 / 12 / 2, 4),
}
_TOPOLOGIES = "v5e:2x4, v5p:2x2x2, v6e:4x4 or tpu7x:2x2x1"
# Memory, its bandwidth, and what NVLink sends one way; the makers' data sheets.
_GPUS = {
    "a100": ("NVIDIA A100", 80e9, 2039e9, 300e9),
    "h100": ("NVIDIA H100", 80e9, 3350e9, 450e9),
    "h200": ("NVIDIA H200", 141e9, 4800e9, 450e9),
    "b200": ("NVIDIA B200", 180e9, 7700e9, 900e9),
}
# So that libtpu looks for no TPU, asks no metadata server, takes no lock that a second
# process would wait for and writes no log.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


def topology_devices(name: str, slices: int = 1) -> Sequence[jax.Device]:
    """The devices of a TPU topology such as "v5e:2x4"; programs compile for them.

    Args:
      name: of the topology.
      slices: how many of them, with a slower network between.

    Raises:
      UserError: libtpu is not installed, or knows no such topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "--topology: compiling for a TPU needs libtpu, which is not installed: "
            "pip install -e '.[tpu]' (Linux, x86-64)"
        )
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    known = f"expected the like of {_TOPOLOGIES}"
    if not re.fullmatch(r"\w+:\d+(x\d+){1,2}", name):
        raise UserError(f"--topology={name}: {known}")
    try:
        devices = _described(name, num_slices=slices)
    except jax.errors.JaxRuntimeError as error:
        said = str(error).splitlines()[0].removeprefix("INVALID_ARGUMENT: ")
        raise UserError(f"--topology={name}: {known}; libtpu says: {said}") from None
    if devices[0].device_kind not in _TPUS:
        raise UserError(
            f"--topology={name}: no figures for a {devices[0].device_kind}; {known}"
        )
    return devices


def _described(name: str, **options: int) -> Sequence[jax.Device]:
    """Devices of a topology; older libtpus have to be told of a part of a host."""
    try:
        return topologies.get_topology_desc(name, platform="tpu", **options).devices
    except jax.errors.JaxRuntimeError as error:
        shape = [int(n) for n in name.partition(":")[2].split("x")]
        if "chips_per_host_bounds" not in str(error) or math.prod(shape) > 4:
            raise
        bounds = (*shape, 1)[:3]
        return topologies.get_topology_desc(
            name, platform="tpu", chips_per_host_bounds=bounds, **options
        ).devices


def tpu(devices: Sequence[jax.Device]) -> Chip:
    """A chip of a topology, and what the topology's links let it send on average."""
    kind = devices[0].device_kind
    facts = _TPUS[kind]
    places = zip(*(device.coords for device in devices), strict=True)
    shape = [max(along) + 1 for along in places]
    return Chip(
        facts.memory,
        perf.peak_flops(kind),
        facts.bandwidth,
        facts.link * links(shape, facts.ring),
    )


def links(shape: Sequence[int], ring: int) -> float:
    """Links of a chip in a grid, on average: those at an end have fewer.

    Args:
      shape: of the topology.
      ring: a dimension whose length is a multiple of this closes to a ring.
    """
    return sum(2.0 if n % ring == 0 else 2 * (n - 1) / n for n in shape)


def gpu(name: str) -> tuple[Chip, int]:
    """The chip of `--gpu`, such as "h100:8", and how many.

    Raises:
      UserError: an unknown one.
    """
    model, _, count = name.lower().partition(":")
    if model not in _GPUS or not re.fullmatch(r"[1-9]\d*", count):
        raise UserError(
            f"--gpu={name}: expected NAME:COUNT, as in h100:8, of {', '.join(_GPUS)}; "
            "for another give --memory_gb, --peak_tflops and --devices"
        )
    kind, memory, bandwidth, network = _GPUS[model]
    return Chip(memory, perf.peak_flops(kind), bandwidth, network), int(count)


def tpu_target(topology: str) -> Target:
    """A TPU topology, compiled for by libtpu."""
    devices = topology_devices(topology)
    return Target(topology, tpu(devices), devices)


def gpu_target(name: str, chip: Chip, count: int) -> Target:
    """GPUs, by what XLA compiles for as many CPU devices."""
    with contextlib.suppress(RuntimeError):  # JAX is awake; there may be enough
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise UserError(f"{count} CPU devices to compile for, JAX has {len(devices)}")
    return Target(
        name,
        chip,
        devices[:count],
        "an estimate: compiled for CPU devices. Parameters, optimizer state and batch "
        "are exact; temporaries, traffic and collectives are those of XLA's CPU "
        "backend, which holds scores of attention and computes bfloat16 in float32",
    )
