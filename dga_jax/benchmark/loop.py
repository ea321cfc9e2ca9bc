"""What the training loop adds to the programs that it runs."""

import contextlib
import dataclasses
import functools
import itertools
import statistics
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax

from dga_jax.benchmark.tables import Check, Table
from dga_jax.errors import Stopped
from dga_jax.training.loop import train
from dga_jax.training.setup import Run

TRAIN, ALIGN = "train", "align"
BETWEEN = "between train steps"
TO_UPDATE = "train step to alignment"
FROM_UPDATE = "alignment to train step"
_GOAL = 2.0  # milliseconds a step
_Ran = tuple[str, float, float]  # what, when it began and ended


class _EnoughError(Exception):
    """The loop has been watched for long enough."""


class _Watched:
    """A jitted step of which every run is waited for and noted.

    Args:
      name: of the step.
      step: jitted.
      runs: where (name, began, ended) is noted, in seconds.
      limit: runs of train steps after which the loop is left.
    """

    def __init__(self, name: str, step: Any, runs: list[_Ran], limit: int):
        self._name, self._step = name, step
        self._runs, self._left = runs, limit

    def lower(self, *arguments: Any) -> types.SimpleNamespace:
        """As of the jitted step: has `compile`."""
        lowered = self._step.lower(*arguments)
        return types.SimpleNamespace(
            compile=lambda: functools.partial(self._call, lowered.compile())
        )

    def _call(self, program: Callable, *arguments: Any) -> Any:
        began = time.perf_counter()
        result = jax.block_until_ready(program(*arguments))
        self._runs.append((self._name, began, time.perf_counter()))
        self._left -= 1
        if not self._left:
            raise _EnoughError
        return result


def loop_table(run: Run, name: str, steps: int) -> Table:
    """Time that the real loop spends outside the jitted programs.

    Every program is waited for, so that nothing hides behind it. The run is used up.

    Args:
      run: past its step 0, with steps to go.
      name: for the title.
      steps: train steps to watch, several updates among them.

    Raises:
      Stopped: a SIGTERM came, which the loop takes for itself.
    """
    runs = []
    watched = run.steps._replace(
        train=_Watched(TRAIN, run.steps.train, runs, steps),
        align=_Watched(ALIGN, run.steps.align, runs, steps),
    )
    with contextlib.suppress(_EnoughError):
        train(dataclasses.replace(run, steps=watched))
        raise Stopped
    gaps = _gaps(runs)
    step = statistics.median(
        ended - began for what, began, ended in runs if what == TRAIN
    )
    rows = {what: (median, median / (step * 1e3)) for what, median in gaps.items()}
    return Table(
        f"loop: {name}, outside the programs, a train step being {step * 1e3:.3g} ms",
        ("ms", "of a train step"),
        rows,
        (Check(f"at most {_GOAL:.0f} ms {BETWEEN}", gaps[BETWEEN], _GOAL),),
    )


def _gaps(runs: Sequence[_Ran]) -> dict[str, float]:
    """Median milliseconds between one program and the next, by what they are."""
    kinds = {
        (TRAIN, TRAIN): BETWEEN,
        (TRAIN, ALIGN): TO_UPDATE,
        (ALIGN, TRAIN): FROM_UPDATE,
    }
    gaps = {kind: [] for kind in kinds.values()}
    for (before, _, ended), (after, began, _) in itertools.pairwise(runs):
        gaps[kinds[before, after]].append((began - ended) * 1e3)
    # The first time, the alignment step is compiled on the way.
    gaps[TO_UPDATE] = gaps[TO_UPDATE][1:]
    return {kind: statistics.median(values) for kind, values in gaps.items()}
