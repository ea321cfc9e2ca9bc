"""The parameters of a checkpoint, one after the other, and nothing else of it."""

import collections
import concurrent.futures
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore

from dga_jax.model.transformer import ModelConfig, abstract
from dga_jax.training import integrity
from dga_jax.training.integrity import DamagedError

_AHEAD = 2  # parameters that are read while another is used


def read(folder: Path, config: ModelConfig) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields path and values of each parameter, and reads the next ones meanwhile.

    Args:
      folder: of the checkpoint.
      config: the architecture.

    Yields:
      The path in the pytree of parameters, and a float32 NumPy array.

    Raises:
      DamagedError: the checkpoint is not what was saved.
      UserError: something in it cannot be opened.
    """
    folder = folder.absolute()  # which TensorStore asks for
    integrity.check_readable(folder)
    sums = integrity.read_record(folder)["fingerprint"]
    integrity.check_files(folder)
    leaves = jax.tree_util.tree_leaves_with_path(abstract(config)[1])

    def read_one(i: int) -> tuple[tuple[str, ...], np.ndarray]:
        path = tuple(key.key for key in leaves[i][0])
        values = _read(folder, path, leaves[i][1])
        # The parameters come first in a checkpoint.
        if integrity.fingerprint(values) != sums[i : i + 1]:
            raise DamagedError(f"{'.'.join(path)} is not what was saved")
        return path, values

    with concurrent.futures.ThreadPoolExecutor(_AHEAD) as pool:
        submit = functools.partial(pool.submit, read_one)
        coming = collections.deque(map(submit, range(_AHEAD)))
        for i in range(_AHEAD, len(leaves) + _AHEAD):
            found = coming.popleft().result()
            if i < len(leaves):
                coming.append(submit(i))
            yield found
            del found  # or one more would be held while the next is waited for


def _read(
    folder: Path, path: tuple[str, ...], leaf: jax.ShapeDtypeStruct
) -> np.ndarray:
    """One parameter, by the library that orbax has saved it with.

    Orbax itself reads into memory that is new each time and in small pages, which takes
    longer than to copy the values.
    """
    name = ".".join(("train", "params", *path))
    base = {"driver": "file", "path": f"{folder / 'state'}/"}
    kvstore = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
    spec = {"driver": "zarr", "kvstore": kvstore}
    values = np.empty(leaf.shape, leaf.dtype)
    try:
        found = tensorstore.open(spec, open=True, read=True).result()
        tensorstore.array(values).write(found).result()
    except Exception as error:
        if integrity.proves_damage(error, folder):
            raise DamagedError(str(error)) from error
        raise
    return values
