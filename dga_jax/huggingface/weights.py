"""The parameters of a Hugging Face directory, placed on a mesh as they are read."""

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
        if found[name].shape != shape:
            raise UserError(
                f"{where}: tensor {name} is {list(found[name].shape)}, and"
                f" {list(shape)} by config.json; the two are not of one model"
            )
    for name in sorted(found.keys() - expected.keys()):
        if not _follows(name, found, config):
            raise UserError(
                f"{where}: tensor {name} has no place in a model as config.json says it"
                " is; it would not be read"
            )
    return {name: found[name] for name in expected}


def _follows(name: str, found: Mapping[str, Tensor], config: ModelConfig) -> bool:
    """Whether a tensor says what is known without it."""
    if name == UNEMBEDDING:  # of tied embeddings
        mine, other = found[name], found[EMBEDDING]
        same = (mine.shape, mine.dtype) == (other.shape, other.dtype)
        return same and _equal_bytes(mine.open(), other.open())
    if name.endswith(_FREQUENCIES) and config.rope_scaling is None:
        expected = np.asarray(frequencies(config.head_width, config.rope_theta))
        values = found[name].open().astype(np.float32)
        return values.shape == expected.shape and np.allclose(values, expected, 1e-2)
    return False


def _equal_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    rows = max(1, (1 << 24) // a[0].nbytes)
    return all(
        np.array_equal(a[i : i + rows].view(np.uint8), b[i : i + rows].view(np.uint8))
        for i in range(0, len(a), rows)
    )


def load(found: Mapping[str, Tensor], config: ModelConfig, abstract: Any) -> dict:
    """The parameters, float32; of each, a device reads its own part.

    Args:
      found: from `check`.
      config: the architecture.
      abstract: pytree of the parameters' shapes, with their shardings.
    """

    def made(leaf: Leaf) -> jax.Array:
        target = abstract
        for key in leaf.path:
            target = target[key]
        return jax.make_array_from_callback(
            leaf.shape, target.sharding, lambda index: _part(found, leaf, index)
        )

    return layout.nested({leaf.path: made(leaf) for leaf in layout.leaves(config)})


def _part(
    found: Mapping[str, Tensor], leaf: Leaf, index: tuple[slice, ...]
) -> np.ndarray:
    """A part of a parameter, float32."""
    names = np.array(leaf.tensors, object)
    if not leaf.stacked:
        return _slice(found[leaf.tensors[0]], leaf, index)
    chosen = names[index[0]]
    parts = [_slice(found[name], leaf, index[1:]) for name in chosen]
    return np.stack(parts)


def _slice(tensor: Tensor, leaf: Leaf, index: tuple[slice, ...]) -> np.ndarray:
    values = tensor.open()
    if leaf.transposed:
        return np.ascontiguousarray(values[index[::-1]].astype(np.float32).T)
    return values[index].astype(np.float32)
