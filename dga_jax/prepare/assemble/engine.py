"""What runs the steps of a job: this process, one of several, or Apache Beam.

A step is a function of one item that leaves what it makes in files, each whole or not
there, and passes over what is there already. So any engine gives the same bytes, and a
job that is stopped goes on where it was.
"""

import itertools
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from dga_jax.errors import UserError
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.workers import map_in_processes

_WORTH_BYTES = 4 << 20  # compressed, in seconds about two

OnBytes = Callable[[int], object]
Step = Callable[[Any, OnBytes], object]
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
    """Runs steps; `is_main` is False in all processes of a job but one."""

    is_main: bool

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

    def meet(self, where: str) -> None:
        """Returns when all processes of the job have come here."""

    def agree(self, value: Any) -> Any:
        """The value of the main process, in all; what JSON can hold.

        What processes see of a shared file system may differ for a while.
        """


class Local:
    """Runs steps in this process, or divides them among the processes of a job.

    Args:
      rank: of this process.
      count: processes; they share a file system.
      meet: called with a name, each time another, waits for the others.
      agree: returns the value that process 0 calls it with.
      workers: processes on this machine for steps that say they may be divided.
    """

    def __init__(
        self,
        rank: int = 0,
        count: int = 1,
        meet: Callable[[str], object] = lambda where: None,
        agree: Callable[[Any], Any] = lambda value: value,
        workers: int = 1,
    ):
        self._rank, self._count = rank, count
        self._meet, self._agree, self._meetings = meet, agree, itertools.count()
        self._workers = workers
        self.is_main = rank == 0

    def map(self, step: Step, items: Sequence[Any], on_bytes: OnBytes) -> None:
        """See `Engine`."""
        mine = items[self._rank :: self._count]
        workers = min(self._workers, len(mine))
        if workers > 1 and getattr(step, "divided", False) and _large(mine):
            map_in_processes(step, mine, on_bytes, workers)
        else:
            for item in mine:
                step(item, on_bytes)
        self.meet(f"map {type(step).__name__}")

    def shuffle(
        self, scatter: Scatter, items: Sequence[Any], gather: Gather, spill: Folder
    ) -> None:
        """See `Engine`; what is on its way lies in files, one an item and key."""
        name = type(scatter).__name__
        folders = [spill.path / f"{i:06d}" for i in range(len(items))]
        for i in range(self._rank, len(items), self._count):
            if not folders[i].exists():
                _spill(scatter(items[i]), folders[i])
        self.meet(f"scatter {name}")
        keys = {int(key) for folder in folders for key in os.listdir(folder)}
        keys = self.agree(sorted(keys))
        for key in keys[self._rank :: self._count]:
            parts = [folder / str(key) for folder in folders]
            if not gather.done(key):
                gather(key, _Parts(parts))
            for part in parts:
                part.unlink(missing_ok=True)
        self.meet(f"gather {name}")

    def meet(self, where: str) -> None:
        """See `Engine`."""
        self._meet(f"{next(self._meetings)} {where}")

    def agree(self, value: Any) -> Any:
        """See `Engine`."""
        return self._agree(value)


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
        os.rename(aside, folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(
            f"cannot write to {folder.parent}: {error.strerror or error}; free some"
            " space, or choose another disk or directory, and run again"
        ) from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


class _Parts:
    """What `_spill` wrote into files that may not be there, as often as is asked."""

    def __init__(self, paths: Iterable[pathlib.Path]):
        self._paths = [path for path in paths if path.exists()]

    def __iter__(self) -> Iterator[bytes]:
        for path in self._paths:
            with open(path, "rb") as file:
                while size := file.read(8):
                    yield file.read(int.from_bytes(size, "little"))
