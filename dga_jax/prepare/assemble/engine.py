"""What runs the steps of a job: this machine, or Apache Beam.

A step is a function of one item that leaves what it makes in files, each whole or not
there, and passes over what is there already. So any engine gives the same bytes, and a
job that is stopped goes on where it was.
"""

import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.workers import Step, map_in_processes

_WORTH_BYTES = 4 << 20  # compressed, in seconds about two

Scatter = Callable[[Any], Iterator[tuple[int, bytes]]]


class Gather(Protocol):
    """Brings together what belongs to a key, once."""

    def __call__(self, key: int, parts: Iterable[bytes]) -> object:
        """Called once a key; the parts come in any order, and may come twice.

        They can be gone through again.
        """

    def done(self, key: int) -> bool:
        """Whether a key was gathered before the job was stopped."""


class Engine(Protocol):
    """Runs steps, which see the files of a job wherever they run."""

    def map(self, step: Step, items: Sequence[Any], on_bytes: OnBytes) -> None:
        """Calls step(item, on_bytes) for all items, in any order and anywhere."""

    def shuffle(
        self, scatter: Scatter, items: Sequence[Any], gather: Gather, spill: Folder
    ) -> None:
        """Regroups bytes by key: gather(key, all that scatter(item) yielded for it).

        Args:
          scatter: yields (key, bytes).
          items: what it is called with.
          gather: see the class; a key that is done is passed over.
          spill: an empty folder for what is on its way.
        """


class Local:
    """Runs steps in this process and in workers that it starts.

    Args:
      workers: processes for steps that say they may be divided.
    """

    def __init__(self, workers: int = 1):
        self._workers = workers

    def map(self, step: Step, items: Sequence[Any], on_bytes: OnBytes) -> None:
        """See `Engine`."""
        workers = min(self._workers, len(items))
        if workers > 1 and getattr(step, "divided", False) and _large(items):
            map_in_processes(step, items, on_bytes, workers)
        else:
            for item in items:
                step(item, on_bytes)

    def shuffle(
        self, scatter: Scatter, items: Sequence[Any], gather: Gather, spill: Folder
    ) -> None:
        """See `Engine`; what is on its way lies in files, one an item and key."""
        folders = [spill.path / f"{i:06d}" for i in range(len(items))]
        for item, folder in zip(items, folders, strict=True):
            if not folder.exists():
                _spill(scatter(item), folder)
        keys = {int(key) for folder in folders for key in os.listdir(folder)}
        for key in sorted(keys):
            parts = [folder / str(key) for folder in folders]
            if not gather.done(key):
                gather(key, _Parts(parts))
            for part in parts:
                part.unlink(missing_ok=True)


def _large(items: Sequence[Any]) -> bool:
    """Whether there is more to read than what the start of processes is worth."""
    return sum(item.num_bytes for item in items) > _WORTH_BYTES


def _spill(pairs: Iterator[tuple[int, bytes]], folder: pathlib.Path) -> None:
    """A directory with a file a key, which appears when it is whole.

    Raises:
      UserError: it cannot be written; a full disk is one reason.
    """
    aside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        aside.mkdir(parents=True)
        for key, data in pairs:
            with open(aside / str(key), "ab") as file:
                file.write(len(data).to_bytes(8, "little"))
                file.write(data)
        # Not put on disk, as outputs are: there may be a million of these files. What a
        # host that goes down loses of them is missed when tokens are counted.
        os.rename(aside, folder)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder.parent}: {error.strerror or error}; free some"
            " space, or choose another disk or directory, and run again"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # it is gone if all went well


class _Parts:
    """What `_spill` wrote into files that may not be there, as often as is asked."""

    def __init__(self, paths: Iterable[pathlib.Path]):
        self._paths = [path for path in paths if path.exists()]

    def __iter__(self) -> Iterator[bytes]:
        for path in self._paths:
            with open(path, "rb") as file:
                while size := file.read(8):
                    yield file.read(int.from_bytes(size, "little"))
