"""One start of a run, and where its seconds go until the first train step has ended.

    python -m dga_jax.benchmark.started BEGAN CONFIG WORKDIR COMPILE_CACHE

prints a JSON object: by part, seconds of the clock and of processors. BEGAN is the time
at which the command was started, in seconds since 1970. The run is stopped behind its
first step as SIGTERM stops it, so that the same command goes on from its checkpoint.
"""

import dataclasses
import json
import runpy
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

IMPORTS = "Python, imports"
SET_UP = "config, store, devices"
STATE = "state made or read"
WAITING = "waiting for programs"
EVALUATION = "evaluation"
STEP = "first step"
PARTS = (IMPORTS, SET_UP, STATE, WAITING, EVALUATION, STEP)


class Laps:
    """Seconds by part, of the clock and of this process' processors.

    Args:
      began: when the first part did, as `time.time()` has it.
    """

    def __init__(self, began: float):
        self.seconds = {part: [0.0, 0.0] for part in PARTS}
        self._clock, self._processors = began, 0.0

    def end(self, part: str) -> None:
        """Books what passed since the last call to a part."""
        now, used = time.time(), time.process_time()
        booked = self.seconds[part]
        booked[0] += now - self._clock
        booked[1] += used - self._processors
        self._clock, self._processors = now, used


class _Awaited:
    """A program that is being compiled; books the waiting, and what comes before.

    Args:
      program: will be it.
      before: the part that ends when it is asked for.
      laps: where it is booked.
      called: gets the program and its arguments.
    """

    def __init__(self, program: Future, before: str, laps: Laps, called: Callable):
        self._program, self._before, self._laps = program, before, laps
        self._called = called

    def result(self) -> Callable:
        """As that of a future."""
        self._laps.end(self._before)
        program = self._program.result()
        self._laps.end(WAITING)
        return lambda *arguments: self._called(program, *arguments)


def main(arguments: Sequence[str]) -> None:
    """Starts the run of the arguments and prints the laps."""
    began, text, directory, cache = arguments
    laps = Laps(float(began))
    import dga_jax.main  # noqa: F401
    from dga_jax import cli
    from dga_jax.errors import UserError
    from dga_jax.training import setup, workdir
    from dga_jax.training.loop import train

    laps.end(IMPORTS)
    path, _, argument = cli.shipped_config(text).partition(":")
    config = runpy.run_path(path)["get_config"](argument or None)
    config.compile_cache = cache
    setup.start_jax(config)
    parts = setup.check(config, config.explicit)
    if config.train.steps < 2:
        raise UserError(
            f"config.train.steps={config.train.steps}, but a restart goes on behind "
            "the first step: measuring starts needs at least 2"
        )
    laps.end(SET_UP)
    with workdir.held(Path(directory)):
        run = setup.open_run(parts, Path(directory), ahead=True)
        laps.end(STATE)
        before = STATE if run.resumed else EVALUATION
        watched = {
            "evaluate": _Awaited(run.programs["evaluate"], STATE, laps, _call),
            "train": _Awaited(run.programs["train"], before, laps, _stopping(laps)),
        }
        train(dataclasses.replace(run, programs=run.programs | watched))
    print(json.dumps(laps.seconds))


def _call(program: Callable, *arguments: Any) -> Any:
    return program(*arguments)


def _stopping(laps: Laps) -> Callable:
    """Runs a program to its end, which is that of what is watched."""
    import jax

    def call(program: Callable, *arguments: Any) -> Any:
        result = jax.block_until_ready(program(*arguments))
        laps.end(STEP)
        signal.raise_signal(signal.SIGTERM)
        return result

    return call


if __name__ == "__main__":
    main(sys.argv[1:])
