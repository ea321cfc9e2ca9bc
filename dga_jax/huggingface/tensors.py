"""Safetensors files of a model, read and written tensor by tensor.

Many files of one model have an index beside them, model.safetensors.index.json. They
are read by the format's own library. That writes a file from memory that holds all of
it, hence `writing`: a file is 8 bytes, the size of a JSON header; the header, by name
`dtype`, `shape` and where in the rest of the file the tensor lies; the tensors, little
endian, row by row.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from dga_jax.errors import UserError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_CODES = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(jnp.bfloat16): "BF16",
}
_ALIGNED = 8
FILE_BYTES = 5_000_000_000
_AGAIN = "copy the model again"

# Of the library: what is read of one are the slices that are asked for. Its shape is
# `get_shape()`, and the code of its type `get_dtype()`.
Tensor = Any


def find(directory: Path) -> dict[str, Tensor]:
    """The tensors of a model by name.

    Raises:
      UserError: there are none, a file is missing or not whole, or a tensor is of
        another type.
    """
    index = directory / INDEX
    if index.is_file():
        files = _indexed(index)
    elif (directory / SINGLE).is_file():
        files = {SINGLE: None}
    else:
        raise _without(directory)
    tensors = {}
    for name, expected in files.items():
        found = _opened(directory / name)
        if missing := sorted(expected - found.keys() if expected else ()):
            raise UserError(
                f"{directory / name}: no tensor {missing[0]}, which {INDEX} says is in"
                f" it; {_AGAIN}"
            )
        if twice := sorted(tensors.keys() & found.keys()):
            raise UserError(
                f"{directory / name}: tensor {twice[0]} is in another file too;"
                f" {_AGAIN}"
            )
        tensors |= found
    return tensors


def _indexed(index: Path) -> dict[str, set[str] | None]:
    """Names of the files, and of the tensors that each is said to hold."""
    try:
        places = json.loads(index.read_bytes())["weight_map"]
        files: dict[str, set[str] | None] = {}
        for tensor, name in places.items():
            if Path(name).name != name:
                raise ValueError(f"{name} is not a file of the directory")
            files.setdefault(name, set()).add(tensor)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{index} is not an index of tensors ({error}); {_AGAIN}"
        ) from None
    return dict(sorted(files.items()))


def _without(directory: Path) -> UserError:
    pickled = sorted(
        path.name
        for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt")
        for path in directory.glob(pattern)
    )
    if pickled:
        return UserError(
            f"{directory} has pickled weights only ({pickled[0]}), which can run any"
            " program when they are read; save them as safetensors (save_pretrained of"
            " transformers does)"
        )
    return UserError(
        f"{directory} has no weights: neither {SINGLE} nor {INDEX}; give the directory"
        " of a model"
    )


def _opened(path: Path) -> dict[str, Tensor]:
    """The tensors of a file."""
    if not path.is_file():
        raise UserError(f"{path}: No such file; {_AGAIN}")
    try:
        with safetensors.safe_open(path, "np") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise UserError(f"{path}: {error}; {_AGAIN}") from None
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}); {_AGAIN}"
        ) from None
    for name, tensor in tensors.items():
        if (code := tensor.get_dtype()) not in _CODES.values():
            raise UserError(
                f"{path}: tensor {name} is of type {code}, not of"
                f" {', '.join(_CODES.values())}; give a model that is not quantized"
            )
    return tensors


class Writer:
    """Files of a model, whose tensors are put into them in any order.

    `writing` makes one.
    """

    def __init__(
        self,
        places: Mapping[str, tuple[int, int]],
        shapes: Mapping,
        dtype: Any,
        pool: Executor,
        disk: Executor,
    ):
        self._places, self._shapes = places, shapes
        self._dtype = np.dtype(dtype)
        self._missing = set(places)
        self._pool, self._disk = pool, disk
        self._flushed: list[Future] = []

    def put(self, values: Iterable[tuple[str, np.ndarray]]) -> None:
        """Writes tensors by name; their values are rounded to the files' dtype."""
        names = list(self._pool.map(lambda each: self._put(*each), values))
        self._missing.difference_update(names)
        # Else all of it would wait for the disk at the end.
        if all(flush.done() for flush in self._flushed):
            files = {self._places[name][0] for name in names}
            self._flushed += [self._disk.submit(os.fsync, file) for file in files]

    def _put(self, name: str, values: np.ndarray) -> str:
        if values.shape != self._shapes[name]:
            raise ValueError(f"{name} is {values.shape}, not {self._shapes[name]}")
        file, offset = self._places[name]
        # Rounded as it lies in memory, and transposed when it is small.
        values = np.ascontiguousarray(values.astype(self._dtype, "K", copy=False))
        data = values.reshape(-1).view(np.uint8).data
        while data:
            written = os.pwrite(file, data, offset)
            data, offset = data[written:], offset + written
        return name

    def check_whole(self) -> None:
        """Raises ValueError if a tensor is missing, OSError if the disk failed."""
        for flush in self._flushed:
            flush.result()
        if self._missing:
            raise ValueError(f"{min(self._missing)} was not written")


@contextlib.contextmanager
def writing(
    directory: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: Any,
    file_bytes: int = FILE_BYTES,
) -> Iterator[Writer]:
    """Files for the tensors of a model, complete when the block ends.

    Args:
      directory: gets the files, and an index if there are several.
      shapes: by name of tensor.
      dtype: of all tensors.
      file_bytes: that a file may have; a tensor that is larger has one of its own.
    """
    sizes = {n: math.prod(s) * np.dtype(dtype).itemsize for n, s in shapes.items()}
    parts = _divided(sizes, file_bytes)
    names = [SINGLE]
    if len(parts) > 1:
        names = [
            f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors"
            for i in range(len(parts))
        ]
    places: dict[str, tuple[int, int]] = {}
    with contextlib.ExitStack() as files:
        for name, part in zip(names, parts, strict=True):
            file = files.enter_context(open(directory / name, "wb")).fileno()
            offset = _write_header(file, part, shapes, sizes, _CODES[np.dtype(dtype)])
            for tensor in part:
                places[tensor] = file, offset
                offset += sizes[tensor]
        pool = files.enter_context(ThreadPoolExecutor(min(4, os.cpu_count() or 1)))
        disk = files.enter_context(ThreadPoolExecutor(1))
        writer = Writer(places, shapes, dtype, pool, disk)
        yield writer
        writer.check_whole()
    if len(parts) > 1:
        index = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": {
                tensor: name
                for name, part in zip(names, parts, strict=True)
                for tensor in part
            },
        }
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _divided(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Names of the tensors of each file, in order."""
    parts: list[list[str]] = [[]]
    room = most
    for name, size in sizes.items():
        if parts[-1] and size > room:
            parts.append([])
            room = most
        parts[-1].append(name)
        room -= size
    return parts


def _write_header(
    file: int,
    names: Iterable[str],
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    code: str,
) -> int:
    """Begins a file; returns where its first tensor lies."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name in names:
        end = start + sizes[name]
        header[name] = {
            "dtype": code,
            "shape": list(shapes[name]),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    os.pwrite(file, len(text).to_bytes(8, "little") + text, 0)
    os.ftruncate(file, 8 + len(text) + start)
    return 8 + len(text)
