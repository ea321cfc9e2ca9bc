"""The parameters of a Hugging Face directory, placed on a mesh as they are read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dga_jax.errors import UserError
from dga_jax.huggingface import layout, tensors
from dga_jax.huggingface.layout import EMBEDDING, UNEMBEDDING, Leaf
from dga_jax.huggingface.tensors import Tensor
from dga_jax.model.attention import frequencies
from dga_jax.model.transformer import ModelConfig

# Llama 2 was saved with what follows from rope_theta.
_FREQUENCIES = "self_attn.rotary_emb.inv_freq"
_COMPARED = 1 << 23  # values of a tensor at a time


def check(directory: Path, config: ModelConfig, where: str) -> dict[str, Tensor]:
    """The tensors of a model, which are those that the architecture has.

    Args:
      directory: of the model.
      config: the architecture.
      where: names the directory in errors.

    Raises:
      UserError: the files are not whole, a tensor is missing or has another shape, or
        there is one that would not be read.
    """
    found = tensors.find(directory)
    expected = layout.tensor_shapes(config)
    for name, shape in expected.items():
        if name not in found:
            raise UserError(
                f"{where}: no tensor {name}, which config.json asks for; copy the model"
                " again"
            )
        if (there := found[name].get_shape()) != list(shape):
            raise UserError(
                f"{where}: tensor {name} is {there}, and {list(shape)} by config.json;"
                " the two are not of one model: copy it again"
            )
    for name in sorted(found.keys() - expected.keys()):
        if not _follows(name, found, config):
            why = "has no place in a model as config.json says it is"
            if name == UNEMBEDDING:
                why = f"is not {EMBEDDING}, as tie_word_embeddings of config.json says"
            raise UserError(
                f"{where}: tensor {name} {why}; it would not be read: give another"
                " model"
            )
    return {name: found[name] for name in expected}


def _follows(name: str, found: Mapping[str, Tensor], config: ModelConfig) -> bool:
    """Whether a tensor says what is known without it."""
    if name == UNEMBEDDING:  # of tied embeddings
        return _same(found[name], found[EMBEDDING])
    if name.endswith(_FREQUENCIES) and config.rope_scaling is None:
        expected = np.asarray(frequencies(config.head_width, config.rope_theta))
        values = found[name][:].astype(np.float32)
        return values.shape == expected.shape and np.allclose(values, expected, 1e-2)
    return False


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, bit by bit; rows of both are read at a time."""
    shape = a.get_shape()
    if (shape, a.get_dtype()) != (b.get_shape(), b.get_dtype()):
        return False
    step = max(1, _COMPARED // math.prod(shape[1:]))
    for start in range(0, shape[0], step):
        rows = slice(start, min(start + step, shape[0]))
        if not np.array_equal(a[rows].view(np.uint8), b[rows].view(np.uint8)):
            return False
    return True


def load(found: Mapping[str, Tensor], config: ModelConfig, abstract: Any) -> dict:
    """The parameters, float32; of each, a device reads its own part.

    Args:
      found: from `check`.
      config: the architecture.
      abstract: pytree of the parameters' shapes, with their shardings.

    Raises:
      UserError: some are not finite; training would be blamed for it.
    """
    leaves = {leaf.path: leaf for leaf in layout.leaves(config)}

    def made(keys: tuple, target: jax.ShapeDtypeStruct) -> jax.Array:
        leaf = leaves[tuple(key.key for key in keys)]
        return jax.make_array_from_callback(
            leaf.shape, target.sharding, lambda index: _part(found, leaf, index)
        )

    return jax.tree_util.tree_map_with_path(made, abstract)


def _part(
    found: Mapping[str, Tensor], leaf: Leaf, index: tuple[slice, ...]
) -> np.ndarray:
    """A part of a parameter, float32."""
    if not leaf.stacked:
        return _slice(found, leaf.tensors[0], leaf, index)
    chosen = leaf.tensors[index[0]]
    return np.stack([_slice(found, name, leaf, index[1:]) for name in chosen])


def _slice(
    found: Mapping[str, Tensor], name: str, leaf: Leaf, index: tuple[slice, ...]
) -> np.ndarray:
    values = found[name][index[::-1] if leaf.transposed else index]
    values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise UserError(
            f"tensor {name} of the model has values that are not finite; give another"
            " model"
        )
    return np.ascontiguousarray(values.T) if leaf.transposed else values
