"""Makes store.tar.xz and run.tar.xz: what the code of a commit leaves on the disk.

A store of named domains and a run on it that was stopped after step 7 of 12, with
checkpoints of steps 5 and 7. Those beside this file were made by the code of c9b6fcb,
in a checkout of it with this folder added, in an empty directory:

    PYTHONPATH=.:tests python tests/before/make.py OUT
"""

import json
import lzma
import os
import pathlib
import shutil
import sys
import tarfile

import pytest
import runs

from dga_jax.data.store import Store
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sample import SAMPLE
from dga_jax.prepare.sources import Shard
from dga_jax.tokenizer import BytesTokenizer

STORE, RUN, UNDISTURBED = "store", "run", "undisturbed.jsonl"


def main(out: pathlib.Path) -> None:
    """Makes both in `out` and packs them."""
    os.chdir(out)  # the config names the store by a relative path
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
    store = Store.open(STORE)
    config = runs.small_config(store, **runs.DECAYING)
    config.model.update(num_layers=1, d_model=8, num_heads=2, d_ff=16)
    runs.train_run(config, pathlib.Path("whole"))
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
