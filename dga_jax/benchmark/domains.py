"""What very many domains cost a run: the same model over few of them and over many.

Each run is a process of its own, so that its memory is its own:

    python -m dga_jax.benchmark.domains STORE WORKDIR LEVEL STEPS

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
from dga_jax.errors import UserError
from dga_jax.logs.metrics import history, read_metrics
from dga_jax.training import workdir
from dga_jax.training.loop import train
from dga_jax.training.setup import check, open_run

_SEQ_LEN = 128
_COLUMNS = ("ms a step", "host memory MB", "checkpoint MB", "resume s")
# Of many domains over few: step time as a ratio, the others as differences.
_GOALS = (1.03, 300.0, 10.0, 2.0)


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
      branching: of the clusters; the first level is the few domains, the last the many.
      steps: trained, an update of the weights every ten.
      rounds: in which the two take turns.
    """

    branching: tuple[int, ...] = (16, 128, 128)
    steps: int = 60
    rounds: int = 3


QUICK = Size(branching=(16, 32), steps=20, rounds=1)


def run(size: Size) -> Iterator[Table]:
    """Trains over both, with as many probes in an update."""
    many, few = math.prod(size.branching), size.branching[0]
    found = {few: [], many: []}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        store.mkdir()
        write_cluster_store(store, size.branching, _SEQ_LEN)
        for i in range(size.rounds):
            for domains, level in ((few, 0), (many, len(size.branching) - 1)):
                out = Path(folder) / f"{domains}-{i}"
                found[domains].append(_child(store, out, level, size.steps))
    rows = {}
    for domains, measured in found.items():
        medians = [statistics.median(column) for column in zip(*measured, strict=True)]
        rows[f"{domains:,} domains"] = tuple(medians)
    ratio = statistics.median(
        b[0] / a[0] for a, b in zip(found[few], found[many], strict=True)
    )
    more = np.subtract(rows[f"{many:,} domains"], rows[f"{few:,} domains"])
    checks = [Check(f"step time at most {_GOALS[0]} x as long", ratio, _GOALS[0])]
    for name, value, goal in zip(_COLUMNS[1:], more[1:], _GOALS[1:], strict=True):
        checks.append(Check(f"at most {goal:.0f} more {name}", float(value), goal))
    yield Table(
        f"domains: the quickstart's model, {size.steps} steps, 16 probes an update",
        _COLUMNS,
        rows,
        tuple(checks),
    )


def _child(store: Path, out: Path, level: int, steps: int) -> tuple[float, ...]:
    command = [sys.executable, "-m", "dga_jax.benchmark.domains"]
    command += [str(store), str(out), str(level), str(steps)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise UserError(f"a run of the benchmark failed: {result.stderr[-500:]}")
    return tuple(json.loads(result.stdout.splitlines()[-1]))


def _measure(store: str, out: Path, level: int, steps: int) -> list[float]:
    """Milliseconds a step, host MB, checkpoint MB, seconds to open the run again."""
    config = get_config()
    config.data.update(store=store, level=level)
    config.mixer.probe_domains = 16
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
    _, speed = history(read_metrics(out), "perf/tokens_per_second")
    tokens = config.train.batch_size * config.train.seq_len
    # The first steps wait for the compiler.
    step = statistics.median(tokens / speed[len(speed) // 4 :]) * 1e3
    return [step, peak, size, resume]


if __name__ == "__main__":
    _store, _out, _level, _steps = sys.argv[1:]
    print(json.dumps(_measure(_store, Path(_out), int(_level), int(_steps))))
