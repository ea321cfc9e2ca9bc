"""Kills a run again and again, and looks whether anybody could tell from its numbers.

    python -m dga_jax.benchmark.soak --workdir=DIR [--kills=100] [--same_mesh]

A small run is trained undisturbed. Then it is trained again, on one or two processes of
one to four CPU devices each, another choice at every start, and at a random moment one
process is killed, or all are, or one is told to stop. Whoever is left when another is
killed has to end within a minute (--within) and with status 143. What all starts
together have logged has to be what the undisturbed run has: the same rows, and losses
and weights to rounding; with --same_mesh, on the same devices always, to the last bit.
A run that came to its end is begun again, until so many kills are done. A hundred take
about an hour on two cores.
"""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from dga_jax import cli
from dga_jax.errors import ExitStatus, UserError
from dga_jax.logs.metrics import read_metrics

CONFIG = (
    "configs/quickstart.py:debug,model.d_model=32,model.d_ff=64,mixer.interval=5,"
    "eval.every=20,checkpoint.every=7,train.steps=60"
)
_STARTS_SECONDS = 600.0
_SAVES_SECONDS = 600.0  # until a step has ended and its state is saved
_EXACT = ("data/epochs/", "mixture/drawn")  # which rows were trained on
_RELATIVE, _ABSOLUTE = 5e-3, 5e-4  # of all else, on other meshes
_Line = Mapping[str, float | None]


class Shape(NamedTuple):
    """What a start runs on: processes, and CPU devices of each."""

    processes: int
    devices: int

    def __str__(self) -> str:
        return f"{self.processes} x {self.devices} devices"


SHAPES = (Shape(1, 1), Shape(1, 2), Shape(1, 4), Shape(2, 1), Shape(2, 2), Shape(2, 4))
SAME = Shape(2, 2)


class Start:
    """The processes of one start of the run.

    Args:
      shape: of the start.
      arguments: of the program.
      said: a folder for what they print.
    """

    def __init__(self, shape: Shape, arguments: Sequence[str], said: pathlib.Path):
        self.shape, self._said = shape, said
        shutil.rmtree(said, ignore_errors=True)
        said.mkdir(parents=True)
        port = _free_port()
        self._processes = [self._start(i, port, arguments) for i in range(shape[0])]

    def _start(
        self, index: int, port: int, arguments: Sequence[str]
    ) -> subprocess.Popen:
        # Of a flag that is given twice the last counts.
        given = os.environ.get("XLA_FLAGS", "").split()
        count = f"--xla_force_host_platform_device_count={self.shape.devices}"
        flags = " ".join([*given, count])
        env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        if self.shape.processes > 1:
            env["JAX_COORDINATOR_ADDRESS"] = f"localhost:{port}"
            env["JAX_NUM_PROCESSES"] = str(self.shape.processes)
            env["JAX_PROCESS_ID"] = str(index)
        with (
            open(self._said / f"{index}.out", "wb") as output,
            open(self._said / f"{index}.err", "wb") as errors,
        ):
            command = [sys.executable, "-m", "dga_jax.main", *arguments]
            return subprocess.Popen(command, stdout=output, stderr=errors, env=env)

    def begun(self) -> bool:
        """Whether the processes have found each other, or have ended."""
        return self.ended() or (self._said / "0.out").stat().st_size > 0

    def ended(self) -> bool:
        """Whether all have."""
        return all(process.poll() is not None for process in self._processes)

    def send(self, index: int, number: signal.Signals) -> None:
        """Sends a signal to one process, if it still runs."""
        if self._processes[index].poll() is None:
            self._processes[index].send_signal(number)

    def end(self) -> list[int]:
        """The statuses of all, however long they take; for those who are patient."""
        return [process.wait() for process in self._processes]

    def kill(self) -> None:
        """Leaves none behind."""
        for i in range(self.shape.processes):
            self.send(i, signal.SIGKILL)

    def errors(self) -> str:
        """What they said on stderr."""
        return "".join(path.read_text() for path in sorted(self._said.glob("*.err")))


def soak(
    workdir: pathlib.Path,
    kills: int,
    *,
    same_mesh: bool = False,
    seed: int = 0,
    config: str = CONFIG,
    within: float = 60.0,
) -> Iterator[str]:
    """Says what is done, a line for each start.

    Args:
      workdir: for the runs; must not exist.
      kills: so many.
      same_mesh: always on the same devices.
      seed: of what is random.
      config: of the run, and its argument.
      within: seconds in which those that are left have to end.

    Raises:
      UserError: the directory exists, or the run cannot be trained.
      AssertionError: anybody could tell.
    """
    if workdir.exists():
        raise UserError(f"--workdir={workdir}: it exists; name one that does not")
    chance, said = random.Random(seed), workdir / "said"
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Start:
            shape = SAME if same_mesh else chance.choice(SHAPES)
            flags_of = [f"--config={config}", f"--workdir={workdir / name}"]
            started = Start(shape, [*flags_of, "--config.log.every=1"], said)
            stack.callback(started.kill)
            return started

        yield from _soak(workdir, kills, start, chance, same_mesh, within)


def _soak(
    workdir: pathlib.Path,
    kills: int,
    start: Callable[[str], Start],
    chance: random.Random,
    same_mesh: bool,
    within: float,
) -> Iterator[str]:
    first = start("undisturbed")
    _wait(first.begun, _STARTS_SECONDS)
    since = time.monotonic()
    if any(first.end()):
        raise UserError(f"the run cannot be trained: {first.errors()}")
    lasts = time.monotonic() - since
    expected = read_metrics(workdir / "undisturbed")
    yield f"undisturbed: {len(expected)} lines in {lasts:.0f} s"
    done, run = 0, 0
    while done < kills:
        run += 1
        name = f"killed-{run}"
        complete = False
        while not complete:
            begun = start(name)
            _wait(begun.begun, _STARTS_SECONDS)
            since = time.monotonic()
            if done < kills and not _over(begun, chance.uniform(0, lasts)):
                done += 1
                yield f"kill {done} of {kills}: {_disturb(begun, chance, within)}"
            statuses = begun.end()
            complete = not any(statuses)
            if complete:  # quicker than the first, which had to compile
                lasts = min(lasts, time.monotonic() - since)
            else:
                assert done, begun.errors()
        tolerance = (0.0, 0.0) if same_mesh else (_RELATIVE, _ABSOLUTE)
        problem = difference(expected, read_metrics(workdir / name), *tolerance)
        assert problem is None, problem
        yield f"{name}: complete, and the numbers are those of the undisturbed run"


def _over(start: Start, seconds: float) -> bool:
    """Whether it has ended so soon."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not start.ended():
        time.sleep(0.05)
    return start.ended()


def _disturb(start: Start, chance: random.Random, within: float) -> str:
    """Does it, and looks who ends how; what was done, on a line."""
    index = chance.randrange(start.shape.processes)
    how = chance.choice(("SIGKILL", "SIGTERM", "SIGKILL to all"))
    number = signal.Signals[how.partition(" ")[0]]
    everybody = range(start.shape.processes) if how.endswith("all") else [index]
    since = time.monotonic()
    for i in everybody:
        start.send(i, number)
    _wait(start.ended, within if number == signal.SIGKILL else _SAVES_SECONDS)
    statuses, took = start.end(), time.monotonic() - since
    allowed = {0, int(ExitStatus.STOPPED)}
    killed = {i: {-number, 0} for i in everybody} if number == signal.SIGKILL else {}
    for i, status in enumerate(statuses):
        assert status in killed.get(i, allowed), f"{statuses}: {start.errors()}"
    of = "" if how.endswith("all") else f" to process {index}"
    return f"{how}{of} of {start.shape}: all ended in {took:.0f} s with {statuses}"


def difference(
    expected: Sequence[_Line], found: Sequence[_Line], relative: float, absolute: float
) -> str | None:
    """The first number that is another, in words; None if there is none."""
    if [line["step"] for line in expected] != [line["step"] for line in found]:
        return "the log has other steps"
    for line, other in zip(expected, found, strict=True):
        for key in sorted(line.keys() | other.keys()):
            if key.startswith("perf/"):
                continue
            a, b = line.get(key), other.get(key)
            exact = a is None or b is None or key.startswith(_EXACT)
            if a != b and (exact or not np.isclose(b, a, relative, absolute)):
                return f"step {line['step']}: {key} is {b}, not {a}"
    return None


def _wait(holds: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"nothing happened for {seconds:.0f} s"
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("localhost", 0))
        return opened.getsockname()[1]


def main(argv: Sequence[str]) -> None:
    """Prints what is done as it is."""
    cli.no_arguments(argv)
    chosen = flags.FLAGS
    workdir = pathlib.Path(chosen.workdir)
    for line in soak(
        workdir,
        chosen.kills,
        same_mesh=chosen.same_mesh,
        seed=chosen.seed,
        config=cli.shipped_config(chosen.config),
        within=chosen.within,
    ):
        print(line, flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Directory for the runs; it must not exist.")
    flags.DEFINE_integer("kills", 100, "How many.", lower_bound=0)
    flags.DEFINE_bool("same_mesh", False, "On the same devices always, to the bit.")
    flags.DEFINE_float("within", 60.0, "Seconds in which those left have to end.")
    flags.DEFINE_integer("seed", 0, "Of what is random.")
    flags.DEFINE_string("config", CONFIG, "Of the run, with its argument.")
    flags.mark_flags_as_required(["workdir"])
    cli.run(main)
