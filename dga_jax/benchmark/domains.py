"""What very many domains cost a run: the same model over few of them and over many.

Each run is a process of its own, so that its memory is its own:

    python -m dga_jax.benchmark.domains STORE WORKDIR LEVEL STEPS BASIS

trains, opens the run again, and prints what it saw as one line of JSON.
"""

import dataclasses
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from configs.quickstart import get_config
from dga_jax.benchmark.synthetic import write_cluster_store
from dga_jax.benchmark.tables import Check, Table
from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.logs.metrics import history, read_metrics
from dga_jax.training import workdir
from dga_jax.training.loop import train
from dga_jax.training.setup import check, open_run

_BASIS = "level0"  # the few, as distributions over the many
_COLUMNS = ("ms a step", "host memory MB", "checkpoint MB", "resume s")
# Of many domains over few: step time as a ratio, the others as differences.
_GOALS = (1.03, 300.0, 10.0, 2.0)


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      branching: of the clusters; the first level is the few domains, the last the many.
      steps: trained, an update of the weights every ten.
      rounds: in which they take turns.
      seq_len: L.
    """

    branching: tuple[int, ...] = (16, 128, 128)
    steps: int = 60
    rounds: int = 3
    seq_len: int = 128


QUICK = Size(branching=(16, 32), steps=20, rounds=1)
# More than anybody has; its store takes 20 minutes to write and 2 GB.
MOST = Size(branching=(16, 1024, 1024), rounds=1, seq_len=16)


def run(size: Size) -> Iterator[Table]:
    """Trains over both, with as many probes in an update."""
    many, few = math.prod(size.branching), size.branching[0]
    last = len(size.branching) - 1
    kinds = {
        f"{few:,} domains": (0, ""),
        f"{many:,} domains": (last, ""),
        f"{many:,}, by a basis of {few}": (last, _BASIS),
    }
    found = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        store.mkdir()
        write_cluster_store(store, size.branching, size.seq_len)
        for i in range(size.rounds):
            for number, (name, (level, basis)) in enumerate(kinds.items()):
                out = Path(folder) / f"{number}-{i}"
                found[name].append(_child(store, out, level, size.steps, basis))
    rows = {
        name: tuple(statistics.median(column) for column in zip(*measured, strict=True))
        for name, measured in found.items()
    }
    yield Table(
        f"domains: the quickstart's model, rows of {size.seq_len}, {size.steps} steps,"
        f" {few} probes an update",
        _COLUMNS,
        rows,
        tuple(_checks(*list(found.values())[:2])) if size == Size() else (),
    )


def _checks(few: list[tuple[float, ...]], many: list[tuple[float, ...]]) -> list[Check]:
    """Of many domains beside few, measured in turns."""
    ratio = statistics.median(b[0] / a[0] for a, b in zip(few, many, strict=True))
    checks = [Check(f"step time at most {_GOALS[0]} x as long", ratio, _GOALS[0])]
    more = np.median(many, axis=0) - np.median(few, axis=0)
    for name, value, goal in zip(_COLUMNS[1:], more[1:], _GOALS[1:], strict=True):
        checks.append(Check(f"at most {goal:.0f} more {name}", float(value), goal))
    return checks


def _child(
    store: Path, out: Path, level: int, steps: int, basis: str
) -> tuple[float, ...]:
    command = [sys.executable, "-m", "dga_jax.benchmark.domains"]
    command += [str(store), str(out), str(level), str(steps), basis]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise UserError(f"a run of the benchmark failed: {result.stderr[-500:]}")
    return tuple(json.loads(result.stdout.splitlines()[-1]))


def _measure(store: str, out: Path, level: int, steps: int, basis: str) -> list[float]:
    """Milliseconds a step, host MB, checkpoint MB, seconds to open the run again."""
    config = get_config()
    config.data.update(store=store, level=level)
    config.train.seq_len = Store.open(store).seq_len
    config.mixer.probe_domains = 0 if basis else 16
    config.mixer.update(basis=basis, interval=10)
    config.train.steps = steps
    config.checkpoint.every = 0
    config.eval.every = 0
    parts = check(config, ())
    with workdir.locked(out):
        train(open_run(parts, out))
        start = time.perf_counter()
        again = open_run(check(config, ()), out)
        resume = time.perf_counter() - start
        again.checkpoints.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    files = (out / "checkpoints" / str(steps)).rglob("*")
    size = sum(path.stat().st_size for path in files if path.is_file()) / 1e6
    step = _seconds_a_step(*history(read_metrics(out), "perf/seconds")) * 1e3
    return [step, peak, size, resume]


def _seconds_a_step(steps: np.ndarray, seconds: np.ndarray) -> float:
    """What passes, updates of the weights and the writing of the log included.

    The mean: what is slow may be so at few of them. The first quarter waits for the
    compiler, and in the last line all is evaluated.
    """
    first = len(steps) // 4
    return float((seconds[-2] - seconds[first]) / (steps[-2] - steps[first]))


if __name__ == "__main__":
    _store, _out, _level, _steps, _basis = sys.argv[1:]
    print(json.dumps(_measure(_store, Path(_out), int(_level), int(_steps), _basis)))
