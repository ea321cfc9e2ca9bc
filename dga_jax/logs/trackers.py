"""Where else the metrics of a run go: Weights & Biases, MLflow, trackio.

`metrics.jsonl` is the truth, and a tracker is given its lines. Each has a thread of its
own, so that a service that is slow, or gone, costs the run nothing; the first thing
that fails is said once, and the tracker is left alone from then on.

After a start a tracker is asked for the last step that it has. The lines behind it, up
to where the run goes on, are read from the log, for a killed process may not have
handed them over. Those that the run writes again and the tracker has are left out,
where a run that goes on computes the same. So no step is missing, and none comes twice.
"""

import itertools
import json
import queue
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dga_jax.files import replaced
from dga_jax.logs.tracker_services import BY_NAME, TrackedRun

_Line = tuple[int, Mapping[str, float | None]]
_IDENTITY = "trackers.json"
_PATIENCE_SECONDS = 120.0  # at the end of a run
_STOPPED_SECONDS = 3.0  # of one that was told to stop, and may soon be killed


def follow(
    names: Sequence[str],
    workdir: Path,
    config: Mapping[str, Any],
    log: Callable[[], Sequence[Mapping[str, float | None]]],
    first_step: int,
) -> "list[Follower]":
    """Begins to hand a run's metrics over to trackers.

    Args:
      names: of `metrics.SERVICES`.
      workdir: of the run.
      config: its fields, by dotted names.
      log: reads the lines that there are; see `metrics.read_metrics`.
      first_step: whose metrics are the first to be written.
    """
    run = TrackedRun(workdir.absolute(), _identity(workdir), config)
    return [Follower(name, run, log, first_step) for name in names]


class Follower(threading.Thread):
    """Hands lines over to a tracker, in a thread of its own.

    Args:
      name: of the tracker.
      run: that it is to show.
      log: reads the lines that there are.
      first_step: of the lines that `write` is called with; those before it are in the
        log.
    """

    def __init__(
        self,
        name: str,
        run: TrackedRun,
        log: Callable[[], Sequence[Mapping[str, float | None]]],
        first_step: int,
    ):
        super().__init__(name=f"tracker {name}", daemon=True)
        self._of, self._run = name, run
        self._log, self._first_step = log, first_step
        self._lines: queue.SimpleQueue = queue.SimpleQueue()
        self._failed = False
        self.start()

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """Returns at once; `values` has None for a number that is not finite."""
        if not self._failed:
            self._lines.put((step, values))

    def close(self, complete: bool) -> None:
        """Waits until the tracker has all, but not for long if more is to come.

        Args:
          complete: the run is; a start after this one hands nothing over.
        """
        self._lines.put(None)
        self.join(_PATIENCE_SECONDS if complete else _STOPPED_SECONDS)
        if self.is_alive() and complete:
            self._say("it has not taken all in time; metrics.jsonl has all")

    def run(self) -> None:
        """All that the thread does."""
        try:
            tracker = BY_NAME[self._of](self._run)
            last = tracker.last_step()
            for step, values in itertools.chain(self._before(), self._coming()):
                if step > last:
                    known = {k: v for k, v in values.items() if v is not None}
                    tracker.write(step, known)
            tracker.close()
        # A service that cannot be reached ends its client in many ways.
        except BaseException as error:
            self._failed = True
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self._say(f"{said}; the run goes on without it")

    def _before(self) -> Iterator[_Line]:
        """The lines of the log that this process will not write."""
        for line in self._log() if self._first_step else ():
            values = dict(line)
            step = values.pop("step")
            if step < self._first_step:
                yield step, values

    def _coming(self) -> Iterator[_Line]:
        """Those that it writes, to the end."""
        while (line := self._lines.get()) is not None:
            yield line

    def _say(self, text: str) -> None:
        print(f"tracker {self._of}: {text}", file=sys.stderr, flush=True)


def _identity(workdir: Path) -> str:
    """What a run is called in all trackers, made at its first start."""
    path = workdir / _IDENTITY
    try:
        return json.loads(path.read_bytes())["id"]
    except (OSError, ValueError, KeyError, TypeError):
        made = secrets.token_hex(6)
    with replaced(path) as file:
        file.write(json.dumps({"id": made}).encode() + b"\n")
    return made
