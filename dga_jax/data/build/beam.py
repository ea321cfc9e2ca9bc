"""The steps of a job on Apache Beam: `pip install 'apache-beam'`, any runner.

The work directory must be one that all workers see: a shared file system, or a URL. The
shuffle is Beam's GroupByKey. Errors of users come back in files beside it, since what a
runner makes of an exception is a long text.
"""

import contextlib
import dataclasses
import io
import secrets
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from dga_jax.data.build.engine import Gather, OnBytes, Scatter, Step
from dga_jax.data.build.folder import Folder
from dga_jax.errors import UserError


class BeamEngine:
    """Runs each step as a pipeline.

    Args:
      options: for Beam, as on a command line: "--runner=FlinkRunner ...".
      work: of the job.
    """

    is_main = True

    def __init__(self, options: str, work: Folder):
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
                " 'dga_jax[beam]', or pip install apache-beam"
            ) from error
        self._beam = beam
        said = io.StringIO()  # what argparse says before it exits
        try:
            with contextlib.redirect_stderr(said):
                self._options = PipelineOptions(shlex.split(options))
                self._options.get_all_options()
                if runner := self._options.view_as(StandardOptions).runner:
                    create_runner(runner)
        except (ValueError, ImportError, AttributeError, SystemExit) as error:
            reason = (said.getvalue().strip().splitlines() or [error])[-1]
            raise UserError(
                f"--beam_options={options}: {reason}; give options of Beam, as in"
                " '--runner=FlinkRunner --flink_master=HOST:PORT'"
            ) from error
        self._errors = work / "errors"

    def map(self, step: Step, items: Sequence[Any], on_bytes: OnBytes) -> None:
        """See `Engine`; bytes are counted when all is done."""
        beam, name = self._beam, type(step).__name__
        guarded = _Guarded(_Call(step), self._errors)
        self._run(
            lambda pipeline: (
                pipeline
                | f"{name} items" >> beam.Create(list(items))
                | f"{name} spread" >> beam.Reshuffle()
                | name >> beam.FlatMap(guarded)
            )
        )
        on_bytes(sum(getattr(item, "num_bytes", 0) for item in items))

    def shuffle(
        self,
        scatter: Scatter,
        items: Sequence[Any],
        gather: Gather,
        done: Callable[[int], bool],
        spill: Folder,
    ) -> None:
        """See `Engine`; nothing goes through `spill`."""
        beam = self._beam
        source, sink = type(scatter).__name__, type(gather).__name__
        guarded_scatter = _Guarded(scatter, self._errors)
        guarded_gather = _Guarded(_Gathering(gather, done), self._errors)
        self._run(
            lambda pipeline: (
                pipeline
                | f"{source} items" >> beam.Create(list(items))
                | f"{source} spread" >> beam.Reshuffle()
                | source >> beam.FlatMap(guarded_scatter)
                | f"{source} grouped" >> beam.GroupByKey()
                | sink >> beam.FlatMap(guarded_gather)
            )
        )

    def meet(self, where: str) -> None:
        """See `Engine`; there is one process."""

    def _run(self, build) -> None:
        self._errors.remove()
        try:
            with self._beam.Pipeline(options=self._options) as pipeline:
                build(pipeline)
        except Exception as error:
            self._raise_said()
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise UserError(
                f"the Beam pipeline failed: {reason}; see the runner's log, and run"
                " again: what is done is not done twice"
            ) from error
        self._raise_said()

    def _raise_said(self) -> None:
        """Raises the first error of a user that a worker met."""
        for name in self._errors.names():
            raise UserError(self._errors.read(name).decode())


@dataclasses.dataclass(frozen=True)
class _Guarded:
    """A generator function whose `UserError` ends in a file; it yields no more then."""

    function: Callable
    errors: Folder

    def __call__(self, item):
        try:
            yield from self.function(item)
        except UserError as error:
            self.errors.write(f"{secrets.token_hex(4)}.txt", str(error).encode())


@dataclasses.dataclass(frozen=True)
class _Call:
    """Calls a step; yields nothing."""

    step: Step

    def __call__(self, item):
        self.step(item, lambda count: None)
        return ()


@dataclasses.dataclass(frozen=True)
class _Gathering:
    """Gathers a key unless that was done before; yields nothing."""

    gather: Gather
    done: Callable[[int], bool]

    def __call__(self, pair):
        key, parts = pair
        if not self.done(key):
            self.gather(key, parts)
        return ()
