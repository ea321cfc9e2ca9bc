"""What a run writes down: the log, TensorBoard, and long series beside them.

WORKDIR/metrics.jsonl holds one JSON object a line, `step` first, then the keys in
order. JSON has no NaN or infinity: such a value is `null`. Equal values give equal
bytes, and whatever depends on time has a key under `perf/`.
"""

import importlib.util
import json
import math
import numbers
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from dga_jax.errors import UserError
from dga_jax.files import replaced
from dga_jax.logs import series

if TYPE_CHECKING:
    from dga_jax.logs.trackers import Follower

LOG_NAME = "metrics.jsonl"
TENSORBOARD = "tensorboard"  # a folder, and a name in `log.trackers`
_STEPS = 1 << 63  # more than any run has: steps are read into int64
SERVICES = ("wandb", "mlflow", "trackio")  # each in a package of this name


class MetricsWriter:
    """Writes the metrics of a run that may have been killed and resumed.

    On construction, whatever the loop is about to write again is cut: lines of the log
    and records of the series at `first_step` or later, and a last line that a kill left
    torn; TensorBoard is told to hide the same steps. What stays keeps its bytes.

    Args:
        workdir: of the run; made if it does not exist.
        first_step: the first step whose metrics are still to be written: 0 in a fresh
            run, s + 1 after a checkpoint of step s.
        active: False on all hosts but one: nothing is touched.
        tensorboard: whether to write for it, too.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        first_step: int,
        active: bool = True,
        tensorboard: bool = True,
    ):
        self._active = active
        if not active:
            return
        workdir = Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        self._log = _open_cut(workdir / LOG_NAME, first_step)
        self._series = series.SeriesFiles(workdir, first_step)
        self._tensorboard, self._followers = None, []
        if tensorboard:
            self._tensorboard = _TensorBoard(workdir / TENSORBOARD, first_step)

    def follow(self, followers: "Sequence[Follower]") -> None:
        """Tells others of each line from now on, once it is written."""
        self._followers = [*followers]

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the line of a step: one call per step, with all that it logs."""
        if not self._active:
            return
        numbers_by_key = {k: _json_number(values[k]) for k in sorted(values)}
        self._log.write(json.dumps({"step": int(step)} | numbers_by_key) + "\n")
        for follower in filter(None, [self._tensorboard, *self._followers]):
            follower.write(step, numbers_by_key)

    def write_series(
        self,
        step: int,
        name: str,
        values: np.ndarray,
        domains: Sequence[str],
        *,
        rank_by: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Turns a number per domain into keys for `write`.

        Above `series.MAX_LOGGED` domains all values are appended to a file (see
        `dga_jax.logs.series`) and only the leading ones are returned.

        Args:
            step: of the values.
            name: "mixture/weight" gives the keys "mixture/weight/DOMAIN"; with a `{}`
                in it, that is where the domain goes: "eval/domain/{}/loss".
            values: [k]; NaN, `null` in the log, where there is none.
            domains: [k] names, the same ones at every step.
            rank_by: [k], what makes a domain a leading one; `values` unless given.

        Returns:
            A mapping from key to value.
        """
        values = np.asarray(values)
        kept = range(len(domains))
        if len(domains) > series.MAX_LOGGED:
            kept = series.leading(values if rank_by is None else np.asarray(rank_by))
            if self._active:
                self._series.append(step, name, values, domains)
        return {series.key(name, domains[i]): values[i].item() for i in kept}

    def keep_series(
        self, step: int, name: str, values: np.ndarray, domains: Sequence[str]
    ) -> None:
        """Appends a number per domain, [k], to a file, whatever their number."""
        if self._active:
            self._series.append(step, name, values, domains)

    def flush(self) -> None:
        """Returns when all that was written is on disk; due before a checkpoint."""
        if not self._active:
            return
        self._log.flush()
        os.fsync(self._log.fileno())
        self._series.flush()
        if self._tensorboard:
            self._tensorboard.flush()

    def close(self) -> None:
        """Flushes and closes the files."""
        if not self._active:
            return
        self.flush()
        self._log.close()
        self._series.close()
        if self._tensorboard:
            self._tensorboard.close()
        self._active = False


def read_metrics(workdir: Path) -> list[dict[str, float | None]]:
    """Reads the log of a run, which may still be going.

    Returns:
        One mapping per line, with "step"; `None` stands for a value not finite. A last
        line without an end is left out.

    Raises:
        UserError: there is no log, or a line is none that `MetricsWriter` writes.
    """
    path = Path(workdir) / LOG_NAME
    if not path.is_file():
        raise UserError(f"{path}: no such file; is {workdir} the workdir of a run?")
    lines = []
    with open(path, "rb") as file:
        for number, text in enumerate(file, 1):
            line = _parse(text)
            if line is not None:
                lines.append(line)
            elif text.endswith(b"\n"):
                raise UserError(
                    f"{path}, line {number}: not a JSON object of a step, and of "
                    "finite numbers or null; resume the run or remove the line"
                )
    return lines


def history(
    lines: Sequence[Mapping[str, float | None]], key: str
) -> tuple[np.ndarray, np.ndarray]:
    """Steps (int [n]) and values (float [n]) of a key, where it has a value."""
    found = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    steps, values = zip(*found, strict=True) if found else ((), ())
    return np.array(steps, int), np.array(values, float)


def _parse(text: bytes) -> dict[str, float | None] | None:
    """The line of a log, or None if it is torn or is none that is ever written."""
    try:
        line = json.loads(text) if text.endswith(b"\n") else None
    except (ValueError, RecursionError):  # the latter of many brackets
        return None
    if not isinstance(line, dict) or not _is_step(line.get("step")):
        return None
    return line if all(x is None or _is_finite(x) for x in line.values()) else None


def _is_step(value: object) -> bool:
    return type(value) is int and 0 <= value < _STEPS


def _is_finite(value: object) -> bool:
    """Whether JSON gave a finite number; for Python `true` is one, too."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _open_cut(path: Path, first_step: int) -> TextIO:
    """Opens a log to append to, leaving the lines of steps before `first_step`."""
    if path.exists():
        with open(path, "rb") as file:
            lines = [(text, _parse(text)) for text in file]
        kept = [text for text, line in lines if line and line["step"] < first_step]
        if len(kept) < len(lines):
            with replaced(path) as file:
                file.writelines(kept)
    return open(path, "a", buffering=1, encoding="utf-8", newline="\n")


def _json_number(value: float) -> float | int | None:
    if isinstance(value, numbers.Integral):
        return int(value)
    value = float(value)
    return value if math.isfinite(value) else None


def chosen(names: str) -> list[str]:
    """The trackers that a config names: TensorBoard, and services.

    Raises:
      UserError: one that is not known, or whose package is not installed.
    """
    found = [name.strip() for name in names.split(",") if name.strip()]
    for name in found:
        if name not in (TENSORBOARD, *SERVICES):
            known = ", ".join([TENSORBOARD, *SERVICES])
            raise UserError(f"config.log.trackers={names}: choose from {known}")
        if name in SERVICES and importlib.util.find_spec(name) is None:
            raise UserError(
                f"config.log.trackers={names}: {name} is not installed: "
                f"pip install 'dga_jax[{name}]', or leave it out"
            )
    return list(dict.fromkeys(found))


class _TensorBoard:
    """Scalars for TensorBoard, one event a step, on disk when `flush` returns.

    tensorboardX's `SummaryWriter` hands events to a thread, and its `flush` does not
    wait for them: what a checkpoint promises to be on disk could be lost with the
    process. Its `EventsWriter` is the same format without the thread.
    """

    def __init__(self, folder: Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        # Files are named by the second: without a finer suffix, a run restarted within
        # one would overwrite the file before.
        self._file = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        # A start of session makes TensorBoard drop that step and all after it from the
        # files before.
        start = SessionLog(status=SessionLog.START)
        self._write(step=first_step, session_log=start)

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        scalars = [
            Summary.Value(tag=key, simple_value=value)
            for key, value in values.items()
            if value is not None
        ]
        self._write(step=step, summary=Summary(value=scalars))

    def _write(self, **fields: Any) -> None:
        self._file.write_event(Event(wall_time=time.time(), **fields))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
