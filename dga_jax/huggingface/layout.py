"""Which tensor of a Hugging Face model is which of our parameters.

Theirs are a tensor a layer, and a projection is [out, in]; ours have all layers in
one array, [N, ...], and a projection is [in, out].
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from dga_jax.model.transformer import ModelConfig, abstract

Path = tuple[str, ...]

# By the path inside a block. Projections are kernels, and some have a bias.
_OF_BLOCK = {
    ("attention_norm", "scale"): "input_layernorm.weight",
    ("attention", "query"): "self_attn.q_proj",
    ("attention", "key"): "self_attn.k_proj",
    ("attention", "value"): "self_attn.v_proj",
    ("attention", "out"): "self_attn.o_proj",
    ("attention", "query_norm", "scale"): "self_attn.q_norm.weight",
    ("attention", "key_norm", "scale"): "self_attn.k_norm.weight",
    ("mlp_norm", "scale"): "post_attention_layernorm.weight",
    ("mlp", "gate"): "mlp.gate_proj",
    ("mlp", "up"): "mlp.up_proj",
    ("mlp", "down"): "mlp.down_proj",
}
EMBEDDING, UNEMBEDDING = "model.embed_tokens.weight", "lm_head.weight"
_OUTSIDE = {
    ("embed", "embedding"): EMBEDDING,
    ("final_norm", "scale"): "model.norm.weight",
    ("unembed", "kernel"): UNEMBEDDING,
}


class Leaf(NamedTuple):
    """A parameter, and the tensors that it is made of.

    Attributes:
      path: in the pytree of parameters.
      shape: of the parameter.
      tensors: names, one a layer where the parameter is of all layers, else one.
      stacked: whether it is of all layers.
      transposed: whether a tensor has its axes the other way round.
    """

    path: Path
    shape: tuple[int, ...]
    tensors: tuple[str, ...]
    stacked: bool
    transposed: bool

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """Of each tensor."""
        shape = self.shape[self.stacked :]
        return shape[::-1] if self.transposed else shape

    def divided(self, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Names and values of the tensors that a parameter becomes."""
        parts = values if self.stacked else values[None]
        for name, part in zip(self.tensors, parts, strict=True):
            yield name, part.T if self.transposed else part


def leaves(config: ModelConfig) -> Iterator[Leaf]:
    """The parameters of a model, in the order in which a checkpoint has them."""
    params = abstract(config)[1]
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        path = tuple(key.key for key in keys)
        stacked = path[0] == "blocks"
        names: tuple[str, ...]
        if stacked:
            name = _block_name(path[1:])
            names = tuple(f"model.layers.{i}.{name}" for i in range(config.num_layers))
        else:
            names = (_OUTSIDE[path],)
        yield Leaf(path, leaf.shape, names, stacked, path[-1] == "kernel")


def _block_name(path: Path) -> str:
    if path in _OF_BLOCK:
        return _OF_BLOCK[path]
    kind = {"kernel": "weight", "bias": "bias"}[path[-1]]
    return f"{_OF_BLOCK[path[:-1]]}.{kind}"


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's tensors by name: outermost first, then layer by layer."""
    shapes = {
        name: leaf.tensor_shape for leaf in leaves(config) for name in leaf.tensors
    }

    def place(name: str) -> tuple[int, int]:
        parts = name.split(".")
        if parts[1] == "layers":
            return 1, int(parts[2])
        return (0, 0) if name == EMBEDDING else (2, 0)

    return dict(sorted(shapes.items(), key=lambda item: place(item[0])))
