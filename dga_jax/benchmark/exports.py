"""What an export costs, against copying what it writes.

    python -m dga_jax.benchmark.exports WORKDIR OUTPUT DTYPE ROUNDS

prints a JSON object: seconds of each round by what was done, bytes that the process
held before and at its peak (Linux alone says), bytes of the float32 parameters.
"""

import dataclasses
import json
import math
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from dga_jax.benchmark.measured import printed
from dga_jax.benchmark.tables import Check, Table
from dga_jax.data.store import Store
from dga_jax.huggingface import tensors
from dga_jax.model.transformer import abstract, parameter_count
from dga_jax.stores import find_store
from dga_jax.training import (
    checkpoint,
    fields,
    integrity,
    recorded,
    to_huggingface,
    workdir,
)
from dga_jax.training import config as configs

EXPORT, COPY = "export", "copy of the file"
_MOST_TIME = 2.0  # of an export, in copies
_MOST_MEMORY = 1.3  # in copies of the float32 parameters


@dataclasses.dataclass(frozen=True)
class Size:
    """What is exported.

    Attributes:
      model: fields of the group `model`; 750 million parameters.
      rounds: an export and a copy each.
    """

    model: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {"num_layers": 36, "d_model": 1280, "num_heads": 20}
    )
    rounds: int = 3


QUICK = Size({"num_layers": 4, "d_model": 256, "num_heads": 4}, rounds=1)


def run(size: Size) -> Iterator[Table]:
    """A table of each dtype; the run exported has parameters drawn at random."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        config = fields.default_config()
        config.model.update(size.model)
        _write_run(config, folder / "run")
        for dtype in to_huggingface.DTYPES:
            arguments = ["-m", __name__, folder / "run", folder / "out", dtype]
            found = printed([*arguments, str(size.rounds)])
            yield table(found, dtype, parameter_count(configs.model_config(config)))


def table(found: Mapping[str, Any], dtype: str, parameters: int) -> Table:
    """What the command printed, as a table."""
    seconds = {name: found[name] for name in (EXPORT, COPY)}
    ratio = statistics.median(
        a / b for a, b in zip(seconds[EXPORT], seconds[COPY], strict=True)
    )
    held = (found["peak"] - found["before"]) / found["parameters"]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return Table(
        f"export: {parameters:,} parameters, {dtype}, {found['bytes'] / 1e6:,.0f} MB",
        ("s", "MB/s"),
        {name: (s, found["bytes"] / 1e6 / s) for name, s in medians.items()},
        (
            Check(f"within {_MOST_TIME} x the time of a copy", ratio, _MOST_TIME),
            Check(
                f"peak within {_MOST_MEMORY} x the float32 parameters, beside imports",
                held,
                _MOST_MEMORY,
            ),
        ),
        ("read from disk by either, and on disk when it ends",),
    )


def _write_run(config: ConfigDict, directory: Path) -> None:
    """A workdir with one checkpoint of parameters alone, which an export can read."""
    store = Store.open(find_store("sample", 128))
    config.data.store = str(store.path)
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: random.standard_normal(x.shape, np.float32),
        abstract(configs.model_config(config))[1],
    )
    directory.mkdir()
    data = {"content_hash": store.content_hash}
    workdir.write_record(directory, {"config": config.to_dict(), "data": data})
    assert recorded.read(directory) is not None
    record = {"extra": {}, "fingerprint": integrity.fingerprint(params)}
    with checkpoint.manager(directory / "checkpoints") as manager:
        state = {"train": {"params": params}}
        manager.save(
            1,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(state), record=ocp.args.JsonSave(record)
            ),
        )


def _main(arguments: Sequence[str]) -> None:
    directory, output, dtype = Path(arguments[0]), Path(arguments[1]), arguments[2]
    seconds: dict[str, list[float]] = {EXPORT: [], COPY: []}
    # Else the peak of what started this process would count.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    for _ in range(int(arguments[3])):
        shutil.rmtree(output, ignore_errors=True)
        _forget(directory / "checkpoints")
        start = time.perf_counter()
        to_huggingface.export(directory, output, dtype=dtype)
        seconds[EXPORT].append(time.perf_counter() - start)
        peak = _peak()
        _forget(output)
        start = time.perf_counter()
        for path in output.glob("*.safetensors"):
            _copy(path, output.parent / "copy")
        seconds[COPY].append(time.perf_counter() - start)
    found = tensors.find(output).values()
    counts = [math.prod(one.get_shape()) for one in found]
    size = sum(path.stat().st_size for path in output.glob("*.safetensors"))
    memory = {"before": before, "peak": peak, "parameters": 4 * sum(counts)}
    print(json.dumps({**seconds, **memory, "bytes": size}))


def _forget(directory: Path) -> None:
    """Has files be read from the disk again, not from what memory holds of them."""
    os.sync()  # or they have to stay
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) << 10


if __name__ == "__main__":
    _main(sys.argv[1:])
