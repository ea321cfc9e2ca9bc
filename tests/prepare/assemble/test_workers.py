"""Steps in several processes: their errors, and how they end."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from steps import corpus_of, tokenized

from dga_jax.errors import UserError
from dga_jax.prepare.assemble import engine
from dga_jax.prepare.assemble.engine import Local
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.assemble.tokenizing import Tokenize
from dga_jax.prepare.assemble.workers import map_in_processes
from dga_jax.tokenizer import BytesTokenizer


@dataclasses.dataclass(frozen=True)
class Step:
    """Leaves a file with the process that did an item."""

    folder: pathlib.Path

    def __call__(self, item, on_bytes):
        on_bytes(item)
        if item == 13:
            raise UserError("item 13 brings bad luck")
        if item == 14:
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / f"{item}.begun").touch()
        if item in (2, 3):  # each waits for the other: in one process, for ever
            while not (self.folder / f"{5 - item}.begun").exists():
                time.sleep(0.01)
        time.sleep(600 if item == 15 else 0.05)
        (self.folder / str(item)).write_text(str(os.getpid()))


def test_every_item_in_another_process(tmp_path):
    counted = []
    map_in_processes(Step(tmp_path), range(8), counted.append, 2)
    processes = {(tmp_path / str(item)).read_text() for item in range(8)}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    assert sum(counted) == sum(range(8))


@pytest.mark.parametrize(
    ("item", "message"),
    [(13, "item 13 brings bad luck"), (14, "was killed.*--workers=2")],
)
def test_an_error_ends_all(tmp_path, item, message):
    with pytest.raises(UserError, match=message):
        map_in_processes(Step(tmp_path), [15, item], lambda count: None, 2)
    assert not (tmp_path / "15").exists()  # nobody waited for it


PROGRAM = """
import pathlib, sys
from test_workers import Step
from dga_jax.prepare.assemble.workers import map_in_processes
if __name__ == "__main__":
    map_in_processes(Step(pathlib.Path(sys.argv[1])), [1, 15], print, 2)
"""


def test_workers_end_with_their_parent(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    folders = [pathlib.Path(__file__).parents[3], pathlib.Path(__file__).parent]
    process = subprocess.Popen(
        [sys.executable, program, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
        stdout=subprocess.DEVNULL,
    )
    while not all((tmp_path / name).exists() for name in ("1", "15.begun")):
        assert process.poll() is None
        time.sleep(0.05)
    worker = int((tmp_path / "1").read_text())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 600
    while pathlib.Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_files_of_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_WORTH_BYTES", 0)
    corpus = corpus_of(tmp_path, a=["one", "two"], b=["three"], c=["", "four ü"])
    one = tokenized(corpus, tmp_path / "one").tokenized
    step = Tokenize(Folder.of(tmp_path / "many"), BytesTokenizer())
    Local(workers=2).map(step, corpus.shards, lambda count: None)
    for shard in corpus.shards:
        folders = [one.of(shard), step.result.of(shard)]
        names = folders[0].names()
        assert names == folders[1].names()
        assert len({tuple(map(f.read, names)) for f in folders}) == 1
