import gzip
import json
import os
import pathlib
import signal
import subprocess
import time

import forks
import pytest

from dga_jax.data.sample import SAMPLE
from dga_jax.data.store import Store
from dga_jax.prepare.assemble import Outcome
from dga_jax.prepare.commands import summary

ROOT = SAMPLE.parent
TARGET = str(SAMPLE / "target" / "python_docs.eval.jsonl.xz")


def command(*flags: str) -> list[str]:
    return ["-m", "dga_jax.prepare", *flags]


def run(*flags: str, cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return forks.run(command(*flags), cwd, environment)


def fails(*flags: str) -> str:
    """The one line that a failing run says."""
    result = run(*flags)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.endswith(f"{lines[0]}\n")
    return lines[0]


def test_makes_a_store_and_says_how_to_go_on(tmp_path):
    output = tmp_path / "store"
    result = run(
        f"--generic={SAMPLE}/generic/a*.jsonl.xz,{SAMPLE}/generic/dm_*",
        f"--generic={SAMPLE}/generic/wordnet.jsonl.xz",
        f"--target={TARGET}",
        f"--tokenizer={SAMPLE}/tokenizer.json",
        "--seq_len=100",
        f"--output={output}",
    )
    assert result.returncode == 0, result.stderr
    store = Store.open(output)
    assert store.domains().names == ("austen", "dm_math", "wordnet")
    assert store.seq_len == 100
    assert os.listdir(tmp_path) == ["store"]
    lines = [line for line in result.stdout.splitlines() if line.startswith("dm_math")]
    assert f"{store.domains().tokens[1]:,}" in lines[0]
    assert f"--config.data.store={output}" in result.stdout
    assert "100%" in result.stderr


def test_errors_are_one_line(tmp_path):
    given = {
        "generic": f"{SAMPLE}/generic/austen.jsonl.xz",
        "target": TARGET,
        "tokenizer": "bytes",
        "seq_len": "100",
        "output": str(tmp_path / "store"),
    }
    broken = tmp_path / "broken.jsonl.gz"
    line = json.dumps({"text": "All happy families are alike"}) + "\n"
    broken.write_bytes(gzip.compress((line * 1233 + "{'text'}\n").encode()))
    for change, message in [
        ({"generic": None}, "--generic is missing"),
        ({"target": None}, "--target is missing"),
        ({"output": None}, "--output"),
        ({"seq_len": "0"}, "seq_len"),
        ({"seq_len": "-5"}, "seq_len"),
        ({"seq_len": "long"}, "seq_len"),
        ({"sequence": "5"}, "sequence"),
        ({"generic": f"{tmp_path}/*.zst"}, "no file matches"),
        ({"generic": str(broken)}, f"{broken}, line 1234: broken JSON"),
        ({"tokenizer": "words"}, "tokenizer words: No such file"),
        ({"output": str(tmp_path)}, f"{tmp_path} exists; remove it"),
        ({"output": str(broken / "store")}, "store.work: Not a directory"),
        ({"work": str(tmp_path / "store/w")}, "store, which must not exist; choose"),
        ({"output": f"{tmp_path}/\udce9"}, "cannot be printed; choose another name"),
        ({"max_document_mb": "nan"}, "--max_document_mb=nan: give a number"),
        ({"seq_len": str(1 << 60)}, "is not an integer in the range"),
        ({"dropped": "x"}, "nothing is dropped; give --dedup"),
        ({"dropped": str(tmp_path / "no/x"), "dedup": "1"}, "cannot write it; name a"),
        ({"dropped": str(tmp_path), "dedup": "1"}, "cannot write it; name a"),
        ({"dropped": TARGET, "dedup": "1"}, "is a file that is read"),
    ]:
        flags = {k: v for k, v in (given | change).items() if v is not None}
        assert message in fails(*[f"--{k}={v}" for k, v in flags.items()])
    assert os.listdir(tmp_path) == [broken.name]
    assert "no command 'zzz', only tokenizer, inspect" in fails("zzz")
    assert "unexpected b.gz" in fails(*[f"--{k}={v}" for k, v in given.items()], "b.gz")


@pytest.mark.parametrize(
    ("launched", "variable"),
    [
        ({"SLURM_STEP_NODELIST": "a,b", "SLURM_NTASKS": "2"}, "SLURM_NTASKS=2"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_COORDINATOR_ADDRESS=a:1"),
    ],
)
@pytest.mark.parametrize("engine", ["local", "beam"])
def test_it_is_not_one_of_several(tmp_path, monkeypatch, launched, variable, engine):
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    said = fails(
        f"--generic={SAMPLE}/generic/austen.jsonl.xz",
        f"--target={TARGET}",
        "--tokenizer=bytes",
        "--seq_len=100",
        f"--output={tmp_path}/store",
        f"--engine={engine}",
    )
    assert f"{variable} says that this is one of several processes" in said
    assert "start it once, with --workers" in said
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "stopped by SIGTERM; run the same command to go on"),
    ],
)
def test_interrupted_it_leaves_nothing(tmp_path, number, status, said):
    (tmp_path / "out").mkdir()
    slow = tmp_path / "slow.jsonl.gz"  # so many empty lines take a minute to read
    slow.write_bytes(gzip.compress(b"\n" * (1 << 20), 1) * 500)
    process = forks.Process(
        command(
            f"--generic={slow}",
            f"--target={TARGET}",
            "--tokenizer=bytes",
            "--seq_len=10",
            f"--output={tmp_path}/out/store",
        ),
        ROOT,
    )
    while process.poll() is None and not os.listdir(tmp_path / "out"):
        time.sleep(0.05)
    time.sleep(1)  # by now it reads
    process.send_signal(number)
    _, stderr = process.communicate()
    assert process.returncode == status, stderr
    assert stderr.splitlines()[-1] == f"error: {said}"
    assert os.listdir(tmp_path / "out") == []


def part(name: str, rows: int) -> Outcome:
    return Outcome(name, 10, 0, 3000, 1000, 0, rows * 8 - 4, rows, 1, 4 / (rows * 8))


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ("--embedding=minilm", "--cluster"),
        ("--max_imbalance=2", "--cluster"),
        ("--cluster_sample=100", "--cluster"),
        ("--ngram=5", "--contamination"),
        ("--dedup_memory_mb=64", "--dedup"),
    ],
)
def test_a_flag_that_would_do_nothing(given, needed, tmp_path):
    flags = [f"--generic={TARGET}", f"--target={TARGET}", "--tokenizer=bytes"]
    flags += ["--seq_len=16", f"--output={tmp_path / 'store'}", given]
    assert fails(*flags) == f"error: {given.partition('=')[0]} needs {needed}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pattern", ["in", "in/**", "in/*.jsonl,in/**/*"])
@pytest.mark.parametrize("places", [("in/store", "in/work"), ("in/a/store", "")])
def test_what_it_makes_it_does_not_read(pattern, places, tmp_path):
    """A store among its sources; a job that failed goes on there."""
    (tmp_path / "in" / "a").mkdir(parents=True)
    lines = [json.dumps({"text": f"words, number {i}"}) + "\n" for i in range(60)]
    (tmp_path / "in" / "text.jsonl").write_text("".join(lines))
    output, work = places
    flags = [f"--output={output}", *([f"--work={work}"] if work else [])]
    flags += [f"--generic={pattern}", "--target=target.jsonl", "--tokenizer=bytes"]
    flags += ["--seq_len=16", "--workers=1"]
    (tmp_path / "target.jsonl").write_text("not json\n")
    assert run(*flags, cwd=tmp_path).returncode == 2
    assert (tmp_path / (work or f"{output}.work")).exists()
    (tmp_path / "target.jsonl").write_text("".join(lines))
    result = run(*flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert Store.open(tmp_path / output).domains().names == ("text",)


def test_table_of_few_domains():
    text = summary.table([part("a", 1), part("b", 3), part("target", 2)])
    header, a, b, total, target = [line.split("  ") for line in text.splitlines()]
    assert header[0] == "domain"
    assert a[-1] == "50.0%"
    assert b[-1].strip() == "16.7%"
    assert total[-1].strip() == "25.0%"
    assert total[0] == "all 2 domains"
    assert target[0].strip() == "target"


def test_table_of_many_domains_shows_the_largest():
    domains = [part(f"d{i}", i + 1) for i in range(1000)]
    text = summary.table([*domains, part("target", 2)])
    assert len(text.splitlines()) < 80
    assert "d999 " in text
    assert "d3 " not in text
    assert "936 smaller domains" in text
