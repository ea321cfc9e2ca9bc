"""The steps of a job on Apache Beam, with any of its runners.

The work directory must be one that all workers see: a shared file system, or a URL. The
shuffle is Beam's GroupByKey. What workers need of a step comes to them in files there,
and errors of users come back in files, since what a runner makes of an exception is a
long text.
"""

import contextlib
import dataclasses
import functools
import io
import logging
import pickle
import secrets
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dga_jax.errors import UserError
from dga_jax.files import OnBytes
from dga_jax.prepare.assemble.engine import Gather, Scatter, Step
from dga_jax.prepare.assemble.folder import Folder

if TYPE_CHECKING:  # it need not be installed
    import apache_beam as beam

_ERRORS = "errors"  # folder in the work directory
_STOWED_TOGETHER = 1000  # items in a file
_QUIET = ["--default_sdk_harness_log_level=ERROR"]  # it tells of all that it begins


class BeamEngine:
    """Runs each step as a pipeline.

    Args:
      options: for Beam, as on a command line: "--runner=FlinkRunner ...".
      work: of the job.
    """

    def __init__(self, options: str, work: Folder):
        logging.disable(logging.WARNING)  # it warns of what it could import and cannot
        try:
            import apache_beam as beam
            from apache_beam.options.pipeline_options import (
                PipelineOptions,
                StandardOptions,
            )
            from apache_beam.runners import create_runner
        except ImportError as error:
            raise UserError(
                f"--engine=beam: Apache Beam is missing ({error}); pip install"
                " -e '.[beam]'"
            ) from error
        finally:
            logging.disable(logging.NOTSET)
        self._beam = beam
        said = io.StringIO()  # what argparse says before it exits
        try:
            with contextlib.redirect_stderr(said):
                self._options = PipelineOptions([*_QUIET, *shlex.split(options)])
                self._options.get_all_options()
                if runner := self._options.view_as(StandardOptions).runner:
                    create_runner(runner)
        except (ValueError, ImportError, AttributeError, SystemExit) as error:
            reason = (said.getvalue().strip().splitlines() or [error])[-1]
            raise UserError(
                f"--beam_options={options}: {reason}; give options of Beam, as in"
                " '--runner=FlinkRunner --flink_master=HOST:PORT'"
            ) from error
        self._work = work

    def map(self, step: Step, items: Sequence[Any], on_bytes: OnBytes) -> None:
        """See `Engine`; bytes are counted when all is done."""
        with self._stowed(items, call=step) as folder:
            self._run(
                lambda pipeline: (
                    self._items(pipeline, folder)
                    | "call" >> self._beam.FlatMap(_Call(folder))
                )
            )
        on_bytes(sum(getattr(item, "num_bytes", 0) for item in items))

    def shuffle(
        self, scatter: Scatter, items: Sequence[Any], gather: Gather, spill: Folder
    ) -> None:
        """See `Engine`; nothing goes through `spill`."""
        with self._stowed(items, scatter=scatter, gather=gather) as folder:
            self._run(
                lambda pipeline: (
                    self._items(pipeline, folder)
                    | "scatter" >> self._beam.FlatMap(_Scatter(folder))
                    | "regroup" >> self._beam.GroupByKey()
                    | "gather" >> self._beam.FlatMap(_Gather(folder))
                )
            )

    @contextlib.contextmanager
    def _stowed(self, items: Sequence[Any], **functions: Any) -> Iterator[Folder]:
        """A folder with functions and items: a pipeline's graph may not hold much."""
        folder = self._work / f"beam/{secrets.token_hex(8)}"
        for name, function in functions.items():
            folder.write(f"{name}.pickle", pickle.dumps(function))
        for start in range(0, len(items), _STOWED_TOGETHER):
            part = list(items[start : start + _STOWED_TOGETHER])
            folder.write(f"items-{start:012d}.pickle", pickle.dumps(part))
        try:
            yield folder
        finally:
            folder.remove()

    def _items(self, pipeline: "beam.Pipeline", folder: Folder) -> "beam.PCollection":
        names = [name for name in folder.names() if name.startswith("items-")]
        return (
            pipeline
            | "names" >> self._beam.Create(names)
            | "items" >> self._beam.FlatMap(_Items(folder))
            | "spread" >> self._beam.Reshuffle()
        )

    def _run(self, build: Callable[["beam.Pipeline"], object]) -> None:
        errors = self._work / _ERRORS
        errors.remove()
        try:
            with self._beam.Pipeline(options=self._options) as pipeline:
                build(pipeline)
        except Exception as error:
            _raise_said(errors)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise UserError(
                f"the Beam pipeline failed: {reason}; see the runner's log, and run"
                " again: what is done is not done twice"
            ) from error
        _raise_said(errors)


def _raise_said(errors: Folder) -> None:
    """Raises the first error of a user that a worker met."""
    for name in errors.names():
        raise UserError(errors.read(name).decode())


@functools.lru_cache(maxsize=8)
def _load(folder: Folder, name: str) -> Any:
    return pickle.loads(folder.read(f"{name}.pickle"))


@dataclasses.dataclass(frozen=True)
class _Items:
    """Yields the items that were stowed together."""

    folder: Folder

    def __call__(self, name: str) -> list[Any]:
        return pickle.loads(self.folder.read(name))


@dataclasses.dataclass(frozen=True)
class _Guarded:
    """A generator function whose `UserError` ends in a file; it yields no more then."""

    folder: Folder

    @property
    def errors(self) -> Folder:
        """Where errors of users go."""
        return Folder(self.folder.url.rpartition("/beam/")[0]) / _ERRORS

    def __call__(self, item: Any) -> Iterator[tuple[int, bytes]]:
        try:
            yield from self.generate(item)
        except UserError as error:
            name = f"{secrets.token_hex(4)}.txt"
            self.errors.write(name, str(error).encode())


class _Call(_Guarded):
    """Calls a step; yields nothing."""

    def generate(self, item: Any) -> tuple[()]:
        _load(self.folder, "call")(item, lambda count: None)
        return ()


class _Scatter(_Guarded):
    """Yields what goes to each key."""

    def generate(self, item: Any) -> Iterator[tuple[int, bytes]]:
        return _load(self.folder, "scatter")(item)


class _Gather(_Guarded):
    """Gathers a key unless that was done before; yields nothing.

    All has been scattered by now. Where that failed, a key may not be complete.
    """

    def generate(self, pair: tuple[int, Iterable[bytes]]) -> tuple[()]:
        if self.errors.names():
            return ()
        gather = _load(self.folder, "gather")
        key, parts = pair
        if not gather.done(key):
            gather(key, parts)
        return ()
