"""From tasks and a model to a table of what it gets right."""

import contextlib
import logging
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

# Read when it is imported: forked processes do not get on with JAX's threads.
os.environ.setdefault("LMEVAL_DISABLE_MULTIPROC", "1")

from lm_eval.api import task as lm_eval_task
from lm_eval.evaluator import evaluate

from dga_jax.harness import tasks
from dga_jax.harness.adapter import HarnessModel
from dga_jax.harness.generation import Generator
from dga_jax.harness.options import Options
from dga_jax.harness.scoring import Place, Scorer, Work
from dga_jax.logs.console import columns
from dga_jax.tokenizer import Tokenizer

_DRAWS = 1000  # of a bootstrap, for standard errors that have no formula


class Evaluated(NamedTuple):
    """What came of an evaluation.

    Attributes:
      results: by task and group, each metric and its standard error, as lm-eval names
        them: "acc,none", "acc_stderr,none".
      parts: of each group, its tasks and groups.
      shots: examples shown, by task.
      work: what was computed.
    """

    results: Mapping[str, Mapping[str, Any]]
    parts: Mapping[str, list[str]]
    shots: Mapping[str, int]
    work: Work

    def metrics(self) -> dict[str, float]:
        """`NAME/METRIC` of groups, and of tasks that are in none."""
        inside = {name for parts in self.parts.values() for name in parts}
        names = [name for name in self.results if name not in inside - set(self.parts)]
        return {
            f"{name}/{_short(key)}": float(value)
            for name in names
            for key, value in self.results[name].items()
            if _is_metric(key) and isinstance(value, int | float)
        }

    def as_json(self) -> dict[str, Any]:
        """All of it, for a file; a number that does not exist is None."""
        return {
            "results": {
                name: {key: _number(value) for key, value in found.items()}
                for name, found in self.results.items()
            },
            "groups": self.parts,
            "shots": self.shots,
            "tokens": self.work.tokens,
            "tokens_computed": self.work.computed,
            "flops": self.work.flops,
            "flops_computed": self.work.flops_computed,
        }

    def table(self) -> str:
        """A line for each task and group, groups before what is in them."""
        inside = {name for parts in self.parts.values() for name in parts}
        order = [
            (name, depth)
            for top in self.results
            if top not in inside
            for name, depth in self._under(top)
        ]
        keys = dict.fromkeys(
            key for name, _ in order for key in self.results[name] if _is_metric(key)
        )
        rows = [["task", "n", "shots", *(_short(key) for key in keys)]]
        for name, depth in order:
            found = self.results[name]
            shown = "  " * depth + str(found.get("alias", name)).strip(" -")
            shots = self.shots.get(name, "")
            size = f"{found.get('sample_len', '')}"
            rows.append(
                [shown, size, f"{shots}", *(_value(found, key) for key in keys)]
            )
        return columns(rows)

    def _under(self, name: str, depth: int = 0) -> Iterator[tuple[str, int]]:
        yield name, depth
        for part in self.parts.get(name, []):
            if part in self.results:
                yield from self._under(part, depth + 1)


def _is_metric(key: str) -> bool:
    return "," in key and "_stderr," not in key


def _number(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    missing = isinstance(value, float) and not math.isfinite(value)
    return None if missing else value


def _short(key: str) -> str:
    """A metric's name, without the filter if it is none."""
    return key.removesuffix(",none").replace(",", "/")


def _value(found: Mapping[str, Any], key: str) -> str:
    if key not in found:
        return "-"
    value, error = found[key], found.get(key.replace(",", "_stderr,", 1))
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return f"{text} ±{error:.3f}" if isinstance(error, float) else text


class Harness:
    """Tasks that are evaluated once or many times, on a model of one shape.

    Args:
      place: what model, and where.
      tokenizer: of the model.
      options: which tasks.
      bar: show how far it is.

    Raises:
      UserError: a task is not there, or its data.
    """

    def __init__(
        self, place: Place, tokenizer: Tokenizer, options: Options, bar: bool = False
    ):
        options.check()
        with _quiet():
            self._tasks = tasks.load(options)
        self._limit = options.limit or None
        self._scorer, self._generator = Scorer(place, bar), Generator(place, bar)
        self._model = HarnessModel(place, tokenizer, self._scorer, self._generator)

    def __call__(self, params: Any) -> Evaluated:
        """Evaluates the model with these parameters."""
        self._model.params = params
        self._scorer.work = self._generator.work = work = Work()
        for task in self._tasks["tasks"].values():
            task.set_fewshot_seed(tasks.SEED)
        try:
            with _quiet():
                found = evaluate(
                    lm=self._model,
                    task_dict=self._tasks,
                    limit=self._limit,
                    bootstrap_iters=_DRAWS,
                    log_samples=False,
                )
        finally:
            self._model.params = None  # or they would be kept until the next time
        results = dict(found["results"]) | dict(found.get("groups", {}))
        groups = self._tasks.get("groups", {})
        parts = {name: group.child_names for name, group in groups.items()}
        return Evaluated(results, parts, found["n-shot"], work)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar a task, and no warning that a user could do nothing about."""
    logger, bar = logging.getLogger("lm_eval"), lm_eval_task.tqdm
    level = logger.level
    logger.setLevel(logging.ERROR)
    lm_eval_task.tqdm = lambda docs, **_: docs
    try:
        yield
    finally:
        logger.setLevel(level)
        lm_eval_task.tqdm = bar
