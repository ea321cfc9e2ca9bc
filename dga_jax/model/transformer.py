"""A Llama-shaped decoder: RMSNorm, rotary attention, SwiGLU, tied embeddings or not.

Shapes: B rows, L positions, D model width, F feed-forward width, V vocabulary, H heads
of width K, N layers. Parameters are float32; activations have `ModelConfig.dtype`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from dga_jax.model.attention import Attention, RopeScaling, document_positions
from dga_jax.model.kernels import Kernel

# What the backward pass of a layer keeps beside its input, by the name of `remat`.
_POLICIES = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}
REMAT = ("none", *_POLICIES)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What determines the architecture.

    Attributes:
      vocab_size: V.
      num_layers: N.
      d_model: D.
      num_heads: H.
      num_kv_heads: key and value heads; must divide H.
      d_ff: F.
      head_dim: K, even; 0: D/H, which H must then divide.
      qkv_bias: queries, keys and values have biases, as in Qwen 2.
      qk_norm: queries and keys are normalised over K, as in Qwen 3.
      tied_embeddings: the output projection is the embedding, transposed.
      rope_theta: base of the rotary frequencies.
      rope_factor: by which Llama 3.1 divides low rotary frequencies; 1: none is.
      rope_low_frequency, rope_high_frequency, rope_length: see `RopeScaling`.
      norm_eps: added to the mean square in RMSNorm.
      dtype: of activations: "bfloat16" or "float32".
      remat: what of each layer the backward pass computes again instead of keeping it:
        "none"; "dots", all but products of activations and kernels; or "full".
      unrolled: layers are written out one by one and not as a loop, which takes longer
        to compile; for XLA's CPU backend, where a loop is slower.
      attention: one of `kernels.KERNELS`; only "xla" has a forward-mode derivative.
      mesh: that a kernel is spread over; None: it computes where its arguments lie.
      document_end: id of the token that ends a document: positions attend within their
        document, and rotary positions begin anew with each, which holds L² bytes more a
        row, once for all layers. None: a position attends to all of its row before it,
        whatever document it is of.

    Raises:
      ValueError: `document_end` is not in the vocabulary, or `remat` has another name.
    """

    vocab_size: int
    num_layers: int
    d_model: int
    num_heads: int
    num_kv_heads: int
    d_ff: int
    head_dim: int = 0
    qkv_bias: bool = False
    qk_norm: bool = False
    tied_embeddings: bool = True
    rope_theta: float = 10_000.0
    rope_factor: float = 1.0
    rope_low_frequency: float = 1.0
    rope_high_frequency: float = 4.0
    rope_length: int = 8192
    norm_eps: float = 1e-5
    dtype: str = "float32"
    remat: str = "full"
    unrolled: bool = False
    attention: str = "xla"
    mesh: Mesh | None = None
    document_end: int | None = None

    def __post_init__(self):
        if self.remat not in REMAT:
            raise ValueError(f"remat={self.remat!r} is none of {', '.join(REMAT)}")
        end = self.document_end
        if end is not None and not 0 <= end < self.vocab_size:
            raise ValueError(
                f"document_end={end} is not in a vocabulary of {self.vocab_size}"
            )

    @property
    def head_width(self) -> int:
        """K."""
        return self.head_dim or self.d_model // self.num_heads

    @property
    def rope_scaling(self) -> RopeScaling | None:
        """What is done to the rotary frequencies, if anything is."""
        if self.rope_factor == 1.0:
            return None
        return RopeScaling(
            self.rope_factor,
            self.rope_low_frequency,
            self.rope_high_frequency,
            self.rope_length,
        )

    def linear(
        self,
        fan_in: int,
        fan_out: int,
        *,
        rngs: nnx.Rngs,
        residual: bool = False,
        bias: bool = False,
    ) -> "Projection":
        """A projection; those that write to the residual start smaller.

        Standard deviation 1/√fan_in, times 1/√(2N) for the 2N residual writes (GPT-2).
        """
        scale = 1.0 / (2 * self.num_layers) if residual else 1.0
        return Projection(
            fan_in,
            fan_out,
            use_bias=bias,
            dtype=jnp.dtype(self.dtype),
            kernel_init=nnx.initializers.variance_scaling(scale, "fan_in", "normal"),
            rngs=rngs,
        )

    def norm(self, *, rngs: nnx.Rngs, width: int | None = None) -> nnx.RMSNorm:
        """RMSNorm over D or another width; its mean square is always float32."""
        return nnx.RMSNorm(
            width or self.d_model,
            epsilon=self.norm_eps,
            dtype=jnp.dtype(self.dtype),
            rngs=rngs,
        )


class Projection(nnx.Linear):
    """Rows times a kernel, [..., fan_in] to [..., fan_out]."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """The leading axes are one while it is computed.

        The kernel's gradient then sums over one axis: over two, XLA's CPU backend takes
        no matrix product for it.
        """
        flat = super().__call__(x.reshape(-1, x.shape[-1]))
        return flat.reshape(*x.shape[:-1], -1)


# Logical axes of every parameter, by the end of its path. Layers are stacked in front.
LOGICAL_AXES = {
    ("embed", "embedding"): ("vocab", "embed"),
    ("query", "kernel"): ("embed", "heads"),
    ("key", "kernel"): ("embed", "kv_heads"),
    ("value", "kernel"): ("embed", "kv_heads"),
    ("query", "bias"): ("heads",),
    ("key", "bias"): ("kv_heads",),
    ("value", "bias"): ("kv_heads",),
    ("out", "kernel"): ("heads", "embed"),
    ("gate", "kernel"): ("embed", "mlp"),
    ("up", "kernel"): ("embed", "mlp"),
    ("down", "kernel"): ("mlp", "embed"),
    ("unembed", "kernel"): ("embed", "vocab"),
}


class FeedForward(nnx.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202): down(silu(gate x) * up x)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.gate = config.linear(config.d_model, config.d_ff, rngs=rngs)
        self.up = config.linear(config.d_model, config.d_ff, rngs=rngs)
        self.down = config.linear(config.d_ff, config.d_model, residual=True, rngs=rngs)

    def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
        """[B, L, D] to [B, L, D]."""
        return self.down(jax.nn.silu(self.gate(x_BxLxD)) * self.up(x_BxLxD))


class Block(nnx.Module):
    """One pre-norm layer, [B, L, D] to [B, L, D]."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.attention_norm = config.norm(rngs=rngs)
        self.attention = Attention(config, rngs=rngs)
        self.mlp_norm = config.norm(rngs=rngs)
        self.mlp = FeedForward(config, rngs=rngs)

    def __call__(
        self,
        x_BxLxD: jax.Array,
        positions_BxL: jax.Array | None = None,
        attend: Kernel | None = None,
    ) -> jax.Array:
        """The residual stream after this layer; the rest as `Attention` takes it."""
        x_BxLxD += self.attention(self.attention_norm(x_BxLxD), positions_BxL, attend)
        return x_BxLxD + self.mlp(self.mlp_norm(x_BxLxD))


class Transformer(nnx.Module):
    """The decoder. Layers are stacked: their parameters have a leading axis [N].

    Args:
      config: the architecture.
      rngs: for the initial values.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embed = nnx.Embed(
            config.vocab_size,
            config.d_model,
            # So is its gradient summed, over all tokens; activations are cast.
            dtype=jnp.float32,
            embedding_init=nnx.initializers.normal(0.02),
            rngs=rngs,
        )

        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stack(rngs: nnx.Rngs) -> Block:
            return Block(config, rngs=rngs)

        self.blocks = stack(rngs)
        self.final_norm = config.norm(rngs=rngs)
        if not config.tied_embeddings:
            self.unembed = config.linear(config.d_model, config.vocab_size, rngs=rngs)

    def hidden(
        self,
        tokens_BxL: jax.Array,
        constrain: Callable[[jax.Array], jax.Array] = lambda x: x,
        positions_BxL: jax.Array | None = None,
    ) -> jax.Array:
        """Final activations [B, L, D] of token ids [B, L].

        `constrain` is applied to the residual stream between layers; it is where a
        sharding of the batch is pinned down. With positions, which each begin at 0, a
        row holds several texts, and a token attends to its own alone.
        """
        graph, layers = nnx.split(self.blocks)
        end = self.config.document_end
        if end is not None and positions_BxL is None:
            positions_BxL = document_positions(tokens_BxL, end)

        def layer(x_BxLxD: jax.Array, parameters: nnx.State) -> jax.Array:
            return constrain(nnx.merge(graph, parameters)(x_BxLxD, positions_BxL))

        if self.config.remat != "none":
            # Inside a loop nothing could be taken from the forward pass anyway.
            layer = jax.checkpoint(
                layer,
                policy=_POLICIES[self.config.remat],
                prevent_cse=self.config.unrolled,
            )
        x_BxLxD = constrain(self.embed(tokens_BxL).astype(self.config.dtype))
        if self.config.unrolled:
            for parameters in _unstacked(layers, self.config.num_layers):
                x_BxLxD = layer(x_BxLxD, parameters)
        else:
            x_BxLxD, _ = jax.lax.scan(
                lambda x, parameters: (layer(x, parameters), None), x_BxLxD, layers
            )
        return self.final_norm(x_BxLxD)

    def unembedding(self) -> jax.Array:
        """What activations are multiplied with for logits, [D, V] of their dtype."""
        if self.config.tied_embeddings:
            kernel_DxV = self.embed.embedding[...].T
        else:
            kernel_DxV = self.unembed.kernel[...]
        return kernel_DxV.astype(self.config.dtype)

    def logits(self, hidden_BxLxD: jax.Array) -> jax.Array:
        """Unnormalised log-probabilities, float32 [B, L, V]."""
        return jnp.matmul(
            hidden_BxLxD, self.unembedding(), preferred_element_type=jnp.float32
        )

    def __call__(self, tokens_BxL: jax.Array) -> jax.Array:
        """Logits, float32 [B, L, V]; training uses `hidden` and a chunked loss."""
        return self.logits(self.hidden(tokens_BxL))


def _unstacked(layers: nnx.State, num_layers: int) -> list[nnx.State]:
    """The parameters of each layer; their gradients are stacked once, not added up."""
    leaves, tree = jax.tree.flatten(layers)
    parts = [jax.lax.split(leaf, (1,) * num_layers) for leaf in leaves]
    return [
        jax.tree.unflatten(tree, [part[i][0] for part in parts])
        for i in range(num_layers)
    ]


@functools.lru_cache
def abstract(config: ModelConfig) -> tuple[nnx.GraphDef, Any]:
    """The static half of the model, and shapes and dtypes of its parameters."""
    model = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(model, nnx.Param)
    return graph, nnx.to_pure_dict(params)


def parameter_count(config: ModelConfig) -> int:
    """Number of parameters, without making any."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract(config)[1]))


def matrix_parameter_count(config: ModelConfig) -> int:
    """Parameters that multiply every token: all but an embedding that is looked up."""
    looked_up = 0 if config.tied_embeddings else config.vocab_size * config.d_model
    return parameter_count(config) - looked_up
