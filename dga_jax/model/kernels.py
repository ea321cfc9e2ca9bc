"""How causal attention is computed: by XLA, or by a kernel of the platform.

`splash` is Pallas' kernel for TPU, `cudnn` the one for NVIDIA. Neither holds scores
[L, L], and neither has a forward-mode derivative: what is differentiated so takes
`xla`, which runs anywhere.

Shapes: B rows, L positions, H query heads of width K, G key and value heads.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from dga_jax.errors import UserError
from dga_jax.sharding import BATCH_AXES, batch_shards, platform

AUTO = "auto"
KERNELS = ("xla", "splash", "cudnn")

_LANES = 128  # of a TPU's vector registers, the least block of splash
_LARGEST_BLOCK = 512
# From so many positions on, half of the queries are spared half of the keys.
_SPLIT_FROM = 64
_BLACKWELL_ULTRA = 10.3  # compute capability

Kernel = Callable[
    [jax.Array, jax.Array, jax.Array, jax.Array | None], jax.Array
]  # (queries, keys, values, positions) -> mixed values


class Chip(NamedTuple):
    """What decides which kernels run.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      capability: NVIDIA's compute capability; 0 on what is not NVIDIA's.
      cudnn: version of the library, 91100 for 9.11, where it decides; 0: not known.
    """

    platform: str
    capability: float = 0.0
    cudnn: int = 0

    @classmethod
    def of(cls, device: jax.Device) -> "Chip":
        """The chip of a device, which may be one of a topology that is not there."""
        try:  # AMD's are called otherwise: "gfx90a"
            capability = float(getattr(device, "compute_capability", 0))
        except ValueError:
            capability = 0.0
        cudnn = _cudnn_version() if capability == _BLACKWELL_ULTRA else 0
        return cls(device.platform, capability, cudnn)


def _cudnn_version() -> int:
    # JAX asks there, too, and has no public name for it.
    from jax._src.lib import cuda_versions

    return cuda_versions.cudnn_get_version() if cuda_versions else 0


class Shape(NamedTuple):
    """What is asked of a kernel.

    Attributes:
      dtype: of activations.
      head_dim: K.
      length: L.
      documents: whether attention stays within documents.
    """

    dtype: str
    head_dim: int
    length: int
    documents: bool


def choose(wanted: str, chip: Chip, shape: Shape) -> tuple[str, str]:
    """The kernel to take, and why not that of the platform; "" if it is.

    Args:
      wanted: one of `KERNELS`, or `AUTO` for the platform's where it can run.
      chip: that it runs on.
      shape: of what it computes.

    Raises:
      UserError: a kernel was named that cannot run.
    """
    if wanted != AUTO:
        if reason := _obstacle(wanted, chip, shape):
            raise UserError(
                f"config.model.attention={wanted}: {reason}; use model.attention=auto"
            )
        return wanted, ""
    own = {"tpu": "splash", "gpu": "cudnn"}.get(chip.platform)
    if own is None:
        return "xla", ""
    reason = _obstacle(own, chip, shape)
    if not reason and own == "splash" and shape.length < _LANES:
        reason = f"rows of {shape.length} tokens would be filled up to {_LANES}"
    return ("xla", f"not {own}: {reason}") if reason else (own, "")


def _obstacle(kernel: str, chip: Chip, shape: Shape) -> str:
    """Why a kernel cannot run; "" if it can."""
    if kernel == "splash" and chip.platform != "tpu":
        return f"it runs on TPU, and this is {chip.platform}"
    if kernel == "cudnn":
        return _obstacle_to_cudnn(chip, shape)
    return ""


def _obstacle_to_cudnn(chip: Chip, shape: Shape) -> str:
    """Source: `check_is_flash_attention` of jax/_src/cudnn."""
    widest = 256 if chip.capability >= 9 else 128
    if chip.capability < 8:
        return f"it runs on NVIDIA from Ampere on, and this is {chip.platform}"
    if chip.capability == _BLACKWELL_ULTRA and chip.cudnn < 91100:
        return "on NVIDIA's 10.3 it takes cuDNN 9.11"
    if shape.dtype != "bfloat16":
        return f"it computes in bfloat16, and model.dtype is {shape.dtype}"
    if shape.head_dim % 8 or shape.head_dim > widest:
        return (
            f"heads are {shape.head_dim} wide, and it takes multiples of 8 up to "
            f"{widest}"
        )
    if shape.documents and shape.length % 2:
        return f"with model.document_mask it takes no odd length, {shape.length}"
    # Before, the mask had a gradient, [B, 1, L, L], which not every cuDNN computes.
    if shape.documents and jax.__version_info__ < (0, 12):
        return f"with model.document_mask it takes jax 0.12, not {jax.__version__}"
    return ""


def kernel(name: str, mesh: Mesh | None) -> Kernel:
    """The kernel of a name, spread over a mesh.

    Rows lie over `data` and `fsdp`, heads over `tensor`, each where they divide.

    Args:
      name: one of `KERNELS`; where splash is asked for on another platform than TPU, it
        is interpreted, for tests.
      mesh: None: computed where the arguments lie.
    """
    if name == "xla":  # which the compiler partitions by itself
        return xla
    if name == "cudnn":
        return _on_mesh(cudnn, mesh)
    where = platform(mesh) if mesh else jax.default_backend()
    return _on_mesh(functools.partial(splash, interpret=where != "tpu"), mesh)


def _on_mesh(local: Kernel, mesh: Mesh | None) -> Kernel:
    if mesh is None or mesh.size == 1:
        return local

    def spread(
        q_BxLxHxK: jax.Array,
        k_BxLxGxK: jax.Array,
        v_BxLxGxK: jax.Array,
        positions_BxL: jax.Array | None,
    ) -> jax.Array:
        rows = None if q_BxLxHxK.shape[0] % batch_shards(mesh) else BATCH_AXES
        heads = None if k_BxLxGxK.shape[2] % mesh.shape["tensor"] else "tensor"
        spec = P(rows, None, heads, None)
        # What is not there has no leaf for the last spec to be of.
        mapped = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(spec, spec, spec, P(rows, None)),
            out_specs=spec,
            check_vma=False,  # kernels do not say how their results vary
        )
        return mapped(q_BxLxHxK, k_BxLxGxK, v_BxLxGxK, positions_BxL)

    return spread


def xla(
    q_BxLxHxK: jax.Array,
    k_BxLxGxK: jax.Array,
    v_BxLxGxK: jax.Array,
    positions_BxL: jax.Array | None,
) -> jax.Array:
    """As XLA computes it, [B, L, H, K]; has derivatives of either mode.

    The first half of the queries sees the first half of the keys alone, which spares a
    quarter of the scores.

    Args:
      q_BxLxHxK: queries.
      k_BxLxGxK: keys.
      v_BxLxGxK: values.
      positions_BxL: from `document_positions`, to attend within documents; or None.
    """
    length = q_BxLxHxK.shape[1]
    bounds = (0, length // 2, length) if length >= _SPLIT_FROM else (0, length)
    parts = []
    for start, end in itertools.pairwise(bounds):
        queries = slice(start, end)
        parts.append(
            jax.nn.dot_product_attention(
                q_BxLxHxK[:, queries],
                k_BxLxGxK[:, :end],
                v_BxLxGxK[:, :end],
                # Causality is part of the mask: combined with is_causal, the compiler
                # holds the two as [B, H, L, L].
                mask=_seen(end, queries, positions_BxL),
                implementation="xla",
            )
        )
    return jnp.concatenate(parts, axis=1)


def within_documents(positions_BxL: jax.Array) -> jax.Array:
    """Which keys a query sees: its document's up to itself, bool [B, 1, L, L].

    Args:
      positions_BxL: from `document_positions`.
    """
    return _seen(positions_BxL.shape[1], slice(None), positions_BxL)


def _seen(length: int, queries: slice, positions_BxL: jax.Array | None) -> jax.Array:
    """Of `length` keys, those that the queries see: bool [B or 1, 1, queries, keys]."""
    index = jnp.arange(length, dtype=jnp.int32)
    back_QxL = index[queries, None] - index
    seen = (back_QxL >= 0)[None, None]
    if positions_BxL is None:
        return seen
    return seen & (back_QxL <= positions_BxL[:, None, queries, None])


def cudnn(
    q_BxLxHxK: jax.Array,
    k_BxLxGxK: jax.Array,
    v_BxLxGxK: jax.Array,
    positions_BxL: jax.Array | None,
) -> jax.Array:
    """The same by cuDNN's flash attention; within documents, by a mask [B, 1, L, L]."""
    if positions_BxL is None:
        seen: dict[str, Any] = {"is_causal": True}
    else:
        seen = {"mask": within_documents(positions_BxL)}
    return jax.nn.dot_product_attention(
        q_BxLxHxK, k_BxLxGxK, v_BxLxGxK, **seen, implementation="cudnn"
    )


def splash(
    q_BxLxHxK: jax.Array,
    k_BxLxGxK: jax.Array,
    v_BxLxGxK: jax.Array,
    positions_BxL: jax.Array | None,
    *,
    interpret: bool = False,
) -> jax.Array:
    """The same by the kernel of `jax.experimental.pallas.ops.tpu.splash_attention`.

    Rows are filled up to a multiple of 128 positions, which no query sees. Within
    documents, a segment is named by where its document begins.

    Args:
      q_BxLxHxK: queries.
      k_BxLxGxK: keys.
      v_BxLxGxK: values.
      positions_BxL: as in `xla`.
      interpret: compute it without a TPU, slowly.
    """
    # What few runs need, and loads much of Pallas.
    from jax.experimental.pallas.ops.tpu import splash_attention as pallas

    length, heads, width = q_BxLxHxK.shape[1:]
    fill = -length % _LANES

    def head_first(x_BxLxHxK: jax.Array) -> jax.Array:
        filled = jnp.pad(x_BxLxHxK, ((0, 0), (0, fill), (0, 0), (0, 0)))
        return jnp.swapaxes(filled, 1, 2)

    segments = None
    if positions_BxL is not None:
        starts = jnp.arange(length, dtype=jnp.int32) - positions_BxL
        starts = jnp.pad(starts, ((0, 0), (0, fill)), constant_values=-1)
        segments = pallas.SegmentIds(starts, starts)
    size = length + fill
    block = max(b for b in range(_LANES, _LARGEST_BLOCK + 1, _LANES) if size % b == 0)
    attend = pallas.make_splash_mha_single_device(
        pallas.MultiHeadMask([pallas.CausalMask((size, size))] * heads),
        block_sizes=pallas.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        interpret=interpret,
    )
    scaled = q_BxLxHxK * width**-0.5
    mixed_BxHxLxK = jax.vmap(attend)(
        head_first(scaled), head_first(k_BxLxGxK), head_first(v_BxLxGxK), segments
    )
    return jnp.swapaxes(mixed_BxHxLxK, 1, 2)[:, :length]
