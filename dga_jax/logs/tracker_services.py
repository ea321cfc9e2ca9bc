"""The trackers that there are, each as its own package has it; see `trackers`.

A package is imported by the tracker that needs it. What a service needs to know of its
user, and where it is, its own variables say: WANDB_MODE=offline, WANDB_PROJECT,
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, TRACKIO_SPACE_ID, TRACKIO_DIR ...
"""

import os
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

_PROJECT = "dga_jax"  # unless a variable names another
_BLOCK = 2**15  # bytes; of the files that Weights & Biases writes
_BATCH = 1000  # metrics that MLflow takes at a time
_PARAMETERS = 100  # of a config
_STEP = "step"  # a metric of MLflow's, which says what lines are there


class TrackedRun(NamedTuple):
    """The run that a tracker shows.

    Attributes:
      workdir: its name is the run's.
      identity: by which it is known to the tracker, also after a restart.
      config: its fields, by dotted names.
    """

    workdir: Path
    identity: str
    config: Mapping[str, Any]


class Tracker(Protocol):
    """A service that shows metrics; all is called from one thread.

    It is made with a `TrackedRun`, new or known to it, and may raise anything.
    """

    def __init__(self, run: TrackedRun): ...

    def last_step(self) -> int:
        """The last step that it has; -1 if none."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the numbers of a step, which is behind the last one."""

    def close(self) -> None:
        """Returns when all that was written will arrive."""


class WandB:
    """Weights & Biases, online or with WANDB_MODE=offline for `wandb sync` later."""

    def __init__(self, run: TrackedRun):
        import wandb

        self._folder, self._identity = run.workdir / "wandb", run.identity
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=run.identity,
            name=run.workdir.name,
            resume="allow",
            dir=run.workdir,
            config=dict(run.config),
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, disable_code=True
            ),
        )

    def last_step(self) -> int:
        """That of the service; offline, that of the files of earlier starts."""
        if not self._run.offline:
            return self._run.step - 1
        files = self._folder.glob(f"offline-run-*-{self._identity}/*.wandb")
        return max((step for path in files for step in _steps(path)), default=-1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A row of the history."""
        self._run.log(dict(values), step=step, commit=True)

    def close(self) -> None:
        """Ends the run, until it goes on."""
        self._run.finish()


def _steps(path: Path) -> Iterator[int]:
    """The steps in a file of Weights & Biases, up to where it is torn.

    Seven bytes of a header, then a log as LevelDB has it, of messages of theirs.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    for message in _messages(path.read_bytes()):
        record = Record.FromString(message)
        if record.HasField("history"):
            yield record.history.step.num


def _messages(data: bytes) -> Iterator[bytes]:
    """Those of a log of LevelDB; 1: whole, 2, 3, 4: first, middle and last part."""
    at, parts = 7, []
    while at + 7 <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < 7:  # the end of a block, too short for another
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + 7 : at + 7 + length]
        if not kind or len(part) < length:
            return
        parts = [part] if kind in (1, 2) else [*parts, part]
        if kind in (1, 4):
            yield b"".join(parts)
        at += 7 + length


class MLflow:
    """MLflow, where MLFLOW_TRACKING_URI says."""

    def __init__(self, run: TrackedRun):
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric, self._client = Metric, MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        found = self._client.get_experiment_by_name(name)
        where = found.experiment_id if found else self._client.create_experiment(name)
        tag = f"tags.dga_jax = '{run.identity}'"
        known = self._client.search_runs([where], tag, max_results=1)
        if known:
            self._run = known[0].info.run_id
            self._last = int(known[0].data.metrics.get(_STEP, -1))
            self._client.update_run(self._run, "RUNNING")
            return
        tags = {"dga_jax": run.identity}
        made = self._client.create_run(where, tags=tags, run_name=run.workdir.name)
        self._run, self._last = made.info.run_id, -1
        parameters = [Param(k, str(v)) for k, v in run.config.items() if str(v)]
        for i in range(0, len(parameters), _PARAMETERS):
            self._client.log_batch(self._run, params=parameters[i : i + _PARAMETERS])

    def last_step(self) -> int:
        """That of the last line of which all numbers are there."""
        return self._last

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A metric each; last the one that says that the line is there."""
        now = int(time.time() * 1000)
        metrics = [
            self._metric(key, value, now, step)
            for key, value in [*values.items(), (_STEP, step)]
        ]
        for i in range(0, len(metrics), _BATCH):
            self._client.log_batch(self._run, metrics=metrics[i : i + _BATCH])

    def close(self) -> None:
        """Ends the run, until it goes on."""
        self._client.set_terminated(self._run)


class Trackio:
    """trackio: a data base on this machine, or a Space of Hugging Face's."""

    def __init__(self, run: TrackedRun):
        import trackio

        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
            name=f"{run.workdir.name}-{run.identity}",
            config=dict(run.config),
            resume="allow",
            auto_log_gpu=False,
            auto_log_cpu=False,
            embed=False,
        )

    def last_step(self) -> int:
        """As trackio found it."""
        return self._run._next_step - 1  # there is no public name

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A row."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the run, until it goes on."""
        self._run.finish()


BY_NAME: dict[str, type[Tracker]] = {
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}
