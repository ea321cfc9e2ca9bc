import dataclasses
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from dga_jax.benchmark import corpora, library, prepare
from dga_jax.benchmark.measured import measure
from dga_jax.data.sample import SAMPLE
from dga_jax.errors import UserError
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import expand
from dga_jax.tokenizer import load_tokenizer

TINY = dataclasses.replace(
    prepare.QUICK, mb=0.1, large_mb=0.2, vocab_size=500, learnt_mb=0.1, workers=(1,)
)


def python(code):
    return [sys.executable, "-c", code]


def texts(glob):
    return [d.text for d in Corpus(tuple(expand([glob]))).documents()]


def test_formats_hold_the_same_documents_none_twice(tmp_path):
    globs, num_bytes = corpora.write_corpus(tmp_path, 300_000)
    assert set(globs) == set(corpora.FORMATS)
    found = {name: texts(glob) for name, glob in globs.items()}
    first = found[corpora.GZ]
    assert all(documents == first for documents in found.values())
    assert sum(len(text.encode()) for text in first) == num_bytes
    assert 300_000 <= num_bytes < 400_000
    assert len({text.partition(" ")[2] for text in first}) == len(first)


def test_sample_goes_round_with_new_words(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "_texts", lambda path: ["one two three " * 100])
    globs, _ = corpora.write_corpus(tmp_path, 100_000, (corpora.PLAIN,))
    seen, words = set(), 0
    for text in texts(globs[corpora.PLAIN]):
        words += text.count(" ")
        seen |= set(text.split())
    assert len(seen) == pytest.approx(words / 50, rel=0.3)


def test_memory_is_that_of_the_command_alone(tmp_path):
    held = bytearray(200 << 20)
    small = measure(python("pass"), tmp_path)
    large = measure(python("x = bytearray(100 << 20)"), tmp_path)
    assert len(held)
    assert small.peak_mb < 100
    assert 100 < large.peak_mb < 200
    slow = measure(python("import time; time.sleep(0.5)"), tmp_path)
    assert 0.5 < slow.seconds < 600
    busy = measure(
        python("import time\nwhile time.process_time() < 0.5: pass"), tmp_path
    )
    assert slow.cpu_seconds < 0.5 <= busy.cpu_seconds


def test_command_that_fails_says_why(tmp_path):
    with pytest.raises(UserError, match="failed: out of luck"):
        measure(python("print('out of luck'); raise SystemExit('out of luck')"), "/")


def test_interrupted_command_ends(tmp_path):
    file = tmp_path / "pid"
    code = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid()))"
    command = python(f"{code}; time.sleep(600)")
    parent = subprocess.Popen(
        [sys.executable, "-m", "dga_jax.benchmark.measured", *command]
    )
    while not file.exists() or not file.read_text():
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


def test_library_alone_is_held_against_all_of_prepare(tmp_path):
    file = tmp_path / "text.jsonl"
    file.write_text('{"text": "one two"}\n{"text": ""}\n{"text": "<|endoftext|>"}\n')
    bpe = SAMPLE / "tokenizer.json"
    digits = library.behind_digits(bpe, tmp_path / "digits.json")
    assert load_tokenizer(bpe)._words
    assert load_tokenizer(digits)._words is None
    calls = []

    def make(flags):
        calls.append(flags)
        return library.Took(1e6, 2e6)

    files = {"words": bpe, "digits": digits}
    table = library.library_table(make, files, [str(file)], 3.0, (2,), 1, goals=True)
    assert list(table.rows) == [
        "words, the library alone",
        "words, --workers=2",
        "digits, the library alone",
        "digits, --workers=2",
    ]
    assert calls == [[f"--tokenizer={bpe}", "--workers=2"] for bpe in (bpe, digits)]
    for name, (_, seconds, ratio, cpu_seconds, cpu_ratio) in table.rows.items():
        base = table.rows[f"{name.partition(',')[0]}, the library alone"]
        assert ratio == pytest.approx(seconds / base[1])
        assert cpu_ratio == pytest.approx(cpu_seconds / base[3])
    assert [check.met for check in table.checks] == [False, False]
    with pytest.raises(UserError, match="run of the benchmark failed"):
        library.alone(tmp_path / "nothing.json", [str(tmp_path / "nothing")])


@pytest.mark.slow
def test_prepare_part_without_beam(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(prepare.tempfile, "tempdir", str(tmp_path))
    formats, alone, memory, beam = prepare.run(TINY)
    assert len(formats.rows) == 7
    assert formats.rows[prepare.BASE][2] == 1
    assert len(alone.rows) == 4
    assert [row[2] == 1 for row in alone.rows.values()] == [True, False] * 2
    for table in (formats, alone, memory):
        assert all(value > 0 for row in table.rows.values() for value in row)
        assert table.checks == ()
    (small, large) = memory.rows.values()
    assert small == tuple(formats.rows[prepare.BASE][i] for i in (0, 1, 3))
    assert large[2] == pytest.approx(small[2], rel=0.5)
    assert "not installed" in str(beam)
    assert set(beam.rows.values()) == {(None, None, None)}
    assert list(pathlib.Path(tmp_path).iterdir()) == []
