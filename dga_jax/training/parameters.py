"""The parameters of a checkpoint, one after the other, and nothing else of it."""

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dga_jax.model.transformer import ModelConfig, abstract
from dga_jax.training import integrity
from dga_jax.training.integrity import DamagedError


def read(folder: Path, config: ModelConfig) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields path and values of each parameter, and reads the next one meanwhile.

    Args:
      folder: of the checkpoint.
      config: the architecture.

    Yields:
      The path in the pytree of parameters, and a float32 NumPy array.

    Raises:
      DamagedError: the checkpoint is not what was saved.
      UserError: something in it cannot be opened.
    """
    folder = folder.absolute()  # which orbax asks for
    integrity.check_readable(folder)
    sums = integrity.read_record(folder)["fingerprint"]
    integrity.check_files(folder)
    leaves = jax.tree_util.tree_leaves_with_path(abstract(config)[1])
    with (
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer,
        concurrent.futures.ThreadPoolExecutor(1) as ahead,
    ):

        def read_one(i: int) -> tuple[tuple[str, ...], Any]:
            path = tuple(key.key for key in leaves[i][0])
            values = _read(checkpointer, folder, path, leaves[i][1])
            # The parameters come first in a checkpoint.
            if integrity.fingerprint(values) != sums[i : i + 1]:
                raise DamagedError(f"{'.'.join(path)} is not what was saved")
            return path, values

        coming = ahead.submit(read_one, 0)
        for i in range(1, len(leaves) + 1):
            found = coming.result()
            if i < len(leaves):
                coming = ahead.submit(read_one, i)
            yield found
            del found  # or two would be held while the next is waited for


def _read(
    checkpointer: ocp.Checkpointer,
    folder: Path,
    path: tuple[str, ...],
    leaf: jax.ShapeDtypeStruct,
) -> np.ndarray:
    """One parameter."""
    item: Any = leaf
    how: Any = ocp.RestoreArgs(restore_type=np.ndarray)
    for key in ("train", "params", *path)[::-1]:
        item, how = {key: item}, {key: how}
    options = ocp.args.PyTreeRestore(item, restore_args=how, partial_restore=True)
    try:
        found = checkpointer.restore(folder / "state", args=options)
    except Exception as error:
        if integrity.proves_damage(error, folder):
            raise DamagedError(str(error)) from error
        raise
    return jax.tree.leaves(found)[0]
