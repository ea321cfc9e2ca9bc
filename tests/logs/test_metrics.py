"""The log must survive any kill: what a checkpoint promised is there, once."""

import json
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from dga_jax.errors import UserError
from dga_jax.logs.metrics import MetricsWriter, history, read_metrics


def write_steps(workdir, steps, first_step=0):
    writer = MetricsWriter(workdir, first_step=first_step)
    for step in steps:
        writer.write(step, {"train/loss": 1 / (step + 3), "perf/mfu": 0.5})
    writer.close()


def events(workdir):
    """All TensorBoard events of a run, file by file; a torn record ends a file."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            record = data[at + 12 : at + 12 + length]
            if len(record) < length:
                break
            found.append(Event.FromString(record))
            at += 16 + length
    return found


def test_a_resumed_log_has_the_bytes_of_an_undisturbed_one(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write_steps(whole, range(100))
    write_steps(killed, range(70))
    with open(killed / "metrics.jsonl", "a") as log:
        log.write('{"step": 70, "train/lo')
    write_steps(killed, range(51, 100), first_step=51)
    log = (whole / "metrics.jsonl").read_bytes()
    assert (killed / "metrics.jsonl").read_bytes() == log
    assert [line["step"] for line in read_metrics(killed)] == list(range(100))


@pytest.mark.parametrize("first_step", [0, 5])
def test_only_what_will_be_written_again_is_cut(tmp_path, first_step):
    write_steps(tmp_path, range(10))
    MetricsWriter(tmp_path, first_step=first_step).close()
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(first_step))


def test_a_log_with_nothing_to_cut_is_left_alone(tmp_path):
    write_steps(tmp_path, range(10))
    before = (tmp_path / "metrics.jsonl").stat()
    MetricsWriter(tmp_path, first_step=10).close()
    after = (tmp_path / "metrics.jsonl").stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


def test_a_line_without_its_end_is_no_line(tmp_path):
    write_steps(tmp_path, range(3))
    log = tmp_path / "metrics.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[:-1])
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1]
    write_steps(tmp_path, [2], first_step=3)
    assert log.read_bytes() == whole


def test_lines_lost_in_the_middle_do_not_take_others_with_them(tmp_path):
    write_steps(tmp_path, range(3))
    log = tmp_path / "metrics.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], b"\0\0\0\n", *lines[1:]]))
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2: not a JSON object"):
        read_metrics(tmp_path)
    MetricsWriter(tmp_path, first_step=3).close()
    assert log.read_bytes() == b"".join(lines)


_NO_NUMBERS = ['"x"', '"1"', "[1]", '{"a": 1}', "true", "NaN", "-Infinity", "1e999"]


@pytest.mark.parametrize(
    "text",
    [
        *(f'{{"step": 1, "train/loss": {value}}}' for value in _NO_NUMBERS),
        *(f'{{"step": {value}}}' for value in [*_NO_NUMBERS, "null", "-1", "1.0"]),
        f'{{"step": 1{"0" * 30}}}',
        f'{{"step": 1, "train/loss": 1{"0" * 400}}}',
        '{"train/loss": 1}',
        "[" * 100_000,
        "3",
    ],
    ids=lambda text: text[:50],
)
def test_a_line_that_is_never_written_is_an_error_in_its_place(text, tmp_path):
    write_steps(tmp_path, range(3))
    log = tmp_path / "metrics.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], text, *lines[1:], ""]))
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2: not a JSON object"):
        read_metrics(tmp_path)
    MetricsWriter(tmp_path, first_step=3).close()  # as the message says
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2]


@pytest.mark.parametrize(
    "value",
    [True, 0, -3, 1 << 62, np.int64(7), np.float32(3e38), -5e-324, np.nan, -np.inf],
    ids=repr,
)
def test_what_is_written_is_read(value, tmp_path):
    writer = MetricsWriter(tmp_path, first_step=0, tensorboard=False)
    writer.write(0, {"x": value})
    writer.close()
    (line,) = read_metrics(tmp_path)
    assert line == {"step": 0, "x": value if np.isfinite(value) else None}


def test_step_first_then_keys_in_order_whatever_the_order_given(tmp_path):
    writer = MetricsWriter(tmp_path, first_step=0)
    writer.write(np.int64(0), {"b": np.float32(0.1), "a": 2, "ü": float("nan")})
    writer.write(0, {"ü": float("inf"), "a": np.int32(2), "b": float(np.float32(0.1))})
    writer.close()
    first, second = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert first == second
    assert list(json.loads(first).items()) == [
        ("step", 0),
        ("a", 2),
        ("b", float(np.float32(0.1))),
        ("ü", None),
    ]


def test_floats_come_back_to_the_last_bit(tmp_path):
    values = np.random.default_rng(0).normal(size=600) * 10.0 ** np.arange(-300, 300)
    values[::100] = np.inf
    writer = MetricsWriter(tmp_path, first_step=0)
    for step, value in enumerate(values):
        writer.write(step, {"x": value})
    writer.close()
    finite = np.isfinite(values)
    steps, read = history(read_metrics(tmp_path), "x")
    np.testing.assert_array_equal(steps, np.flatnonzero(finite))
    np.testing.assert_array_equal(read, values[finite])


def test_what_was_flushed_outlives_a_kill(tmp_path):
    script = (
        "import os, signal, sys; from dga_jax.logs.metrics import MetricsWriter\n"
        "writer = MetricsWriter(sys.argv[1], first_step=0)\n"
        "for step in range(32):\n"
        "    values = {'loss': step / 3}\n"
        "    series = [step] * 100\n"
        "    names = [str(i) for i in range(100)]\n"
        "    values |= writer.write_series(step, 'w', series, names)\n"
        "    writer.write(step, values)\n"
        "    if step == 30: writer.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(command, cwd=root, check=False)
    assert result.returncode == -signal.SIGKILL
    MetricsWriter(tmp_path, first_step=31).close()
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(31))
    size = (tmp_path / "series" / "w.bin").stat().st_size
    assert size == 31 * (8 + 4 * 100)
    tags = [(e.step, v.tag) for e in events(tmp_path) for v in e.summary.value]
    assert {(step, "loss") for step in range(31)} <= set(tags)


def test_tensorboard_gets_finite_scalars_and_forgets_what_is_written_again(tmp_path):
    writer = MetricsWriter(tmp_path, first_step=0)
    writer.write(7, {"loss": 2.5, "bad": float("nan")})
    writer.close()
    MetricsWriter(tmp_path, first_step=5).close()
    found = events(tmp_path)
    scalars = [(e.step, v.tag, v.simple_value) for e in found for v in e.summary.value]
    assert scalars == [(7, "loss", 2.5)]
    starts = [e.step for e in found if e.session_log.status == SessionLog.START]
    assert starts == [0, 5]


def test_an_inactive_writer_touches_nothing(tmp_path):
    writer = MetricsWriter(tmp_path / "run", first_step=0, active=False)
    values = writer.write_series(0, "w", np.arange(100), [str(i) for i in range(100)])
    writer.write(0, values)
    writer.flush()
    writer.close()
    assert list(tmp_path.iterdir()) == []
    assert len(values) == 16  # the same on all hosts


def test_a_folder_without_a_log_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match=r"is .* the workdir of a run"):
        read_metrics(tmp_path)
