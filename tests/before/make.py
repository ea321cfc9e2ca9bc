"""Makes store.tar.xz and run.tar.xz: what the code of a commit leaves on the disk.

A store of named domains and a run on it that was stopped after step 7 of 12, with
checkpoints of steps 5 and 7. Those beside this file were made by the code of c9b6fcb,
in a checkout of it with this folder added as 4b31c0c has it: modules had other names.
By the code of today it is, in an empty directory:

    PYTHONPATH=.:tests python tests/before/make.py OUT

undisturbed.jsonl is the log of the same run that was not stopped, rows.json what its
sampler gave, by method and step.
"""

import contextlib
import functools
import json
import lzma
import os
import pathlib
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import runs

from dga_jax.data.sampler import Sampler
from dga_jax.data.store import Store
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sample import SAMPLE
from dga_jax.prepare.sources import Shard
from dga_jax.tokenizer import BytesTokenizer

STORE, RUN, UNDISTURBED, ROWS = "store", "run", "undisturbed.jsonl", "rows.json"


def prepare() -> Store:
    """The store, in the working directory, whose texts are written beside it."""
    files = {"generic": [], "target": []}
    for part, shards in files.items():
        for packed in sorted((SAMPLE / part).glob("*.jsonl.xz"))[:4]:
            with lzma.open(packed, "rt", encoding="utf-8") as lines:
                text = json.loads(next(lines))["text"]
            pieces = [text[i : i + 150] for i in range(0, 3000, 150)]
            path = pathlib.Path(packed.name.removesuffix(".xz"))
            path.write_text("".join(json.dumps({"text": t}) + "\n" for t in pieces))
            shards.append(Shard.of(path))
    prepare_store(
        generic=Corpus(tuple(files["generic"])),
        target=Corpus(tuple(files["target"])),
        tokenizer=BytesTokenizer(),
        seq_len=32,
        output=STORE,
    )
    return Store.open(STORE)


@contextlib.contextmanager
def rows_read() -> Iterator[dict[str, dict[str, list]]]:
    """Inside, rows that the sampler gives: ids by method, by step."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw", "probes", "target_rows"):
            patch.setattr(Sampler, name, _recorded(getattr(Sampler, name), found))
        yield found


def _recorded(method: Callable, found: dict[str, dict[str, list]]) -> Callable:
    @functools.wraps(method)
    def recording(self: Sampler, step: int, *args: Any) -> Any:
        result = method(self, step, *args)
        ids = getattr(result, "rows", result)
        found.setdefault(method.__name__, {})[str(step)] = ids.tolist()
        return result

    return recording


def main(out: pathlib.Path) -> None:
    """Makes all of it in `out` and packs store and run."""
    os.chdir(out)  # the config names the store by a relative path
    store = prepare()
    config = runs.small_config(store, **runs.DECAYING)
    config.model.update(num_layers=1, d_model=8, num_heads=2, d_ff=16)
    with rows_read() as rows:
        runs.train_run(config, pathlib.Path("whole"))
    pathlib.Path(ROWS).write_text(json.dumps(rows))
    shutil.copy("whole/metrics.jsonl", UNDISTURBED)
    with runs.stopped(pytest.MonkeyPatch(), 7, by="sigterm"):
        runs.train_run(config, pathlib.Path(RUN))
    for name in (STORE, RUN):
        with tarfile.open(f"{name}.tar.xz", "w:xz") as archive:
            archive.add(name)


if __name__ == "__main__":  # pytest imports this file, to look for doctests
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    main(pathlib.Path(sys.argv[1]))
