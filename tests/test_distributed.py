"""Two processes with four devices each compute what one does on one device."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest
from runs import log_of, small_config, train_run

from dga_jax import distributed
from dga_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 12
FIELDS = {
    "train.steps": STEPS,
    "train.batch_size": 8,
    "model.num_layers": 2,
    "model.d_model": 32,
    "model.num_heads": 4,
    "model.d_ff": 64,
    "mixer.interval": 3,
    "mixer.probe_rows": 2,
    "mixer.target_rows": 8,
    "eval.every": 4,
    "eval.rows": 2,
    "eval.target_rows": 4,
    "checkpoint.every": 5,
    "log.every": 1,
    "log.console": 100,
}


def free_port():
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def launch(store, directory):
    """Starts both processes on `directory`."""
    port = free_port()
    flags = ["--config=configs/quickstart.py:debug", "--config.mesh.fsdp=2"]
    flags += [f"--config.{name}={value}" for name, value in FIELDS.items()]
    flags += [f"--config.data.store={store.path}", f"--workdir={directory}"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "dga_jax.main", *flags],
            cwd=ROOT,
            env={
                **os.environ,
                "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=4"),
                "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(i),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]


def finish(processes):
    """What the first of both printed, once both ended well."""
    results = [process.communicate(timeout=200) for process in processes]
    for process, (_, errors) in zip(processes, results, strict=True):
        assert process.returncode == 0, errors
    return results[0][0]


def until_step(processes, directory, step):
    """Waits until the log has come so far."""
    log = directory / "metrics.jsonl"
    while all(process.poll() is None for process in processes):
        if log.exists() and len(log.read_text().splitlines()) > step:
            return
        time.sleep(0.1)


@pytest.mark.slow
def test_two_processes(byte_store, tmp_path):
    """Stopped by SIGTERM to the second, damaged and resumed: as one alone."""
    processes = launch(byte_store, tmp_path / "two")
    until_step(processes, tmp_path / "two", 6)
    processes[1].send_signal(signal.SIGTERM)
    said = finish(processes)
    steps = [line["step"] for line in log_of(tmp_path / "two")]
    assert steps == list(range(len(steps)))
    saved = sorted(map(int, os.listdir(tmp_path / "two" / "checkpoints")))
    if steps[-1] < STEPS:  # it may have been quicker than the signal
        assert "stopped by SIGTERM" in said
        assert saved[-1] == steps[-1]
    newest = tmp_path / "two" / "checkpoints" / str(saved[-1])
    (newest / "state" / "manifest.ocdbt").unlink()
    said = finish(launch(byte_store, tmp_path / "two"))
    assert f"checkpoint {saved[-1]} is damaged" in said
    assert train_run(small_config(byte_store), tmp_path / "one")
    expected_lines = log_of(tmp_path / "one")
    for line, expected in zip(log_of(tmp_path / "two"), expected_lines, strict=True):
        assert line.keys() == expected.keys()
        for key, value in expected.items():
            assert line[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
        for key in expected:  # the same rows
            if key.startswith("data/epochs/"):
                assert line[key] == expected[key]


@pytest.fixture
def alone(monkeypatch):
    """No trace of a launcher in the environment; records calls to JAX."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TPU_", "JAX_COORD", "JAX_NUM", "JAX_PROCESS")):
            monkeypatch.delenv(name)
    calls = []
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *arguments: calls.append(arguments)
    )
    return calls


def test_a_single_process_joins_nobody(alone, monkeypatch):
    distributed.initialize()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
    distributed.initialize()
    assert alone == []


def test_the_environment_says_so(alone, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host:1234")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    with pytest.raises(UserError, match="JAX_PROCESS_ID is not; set both"):
        distributed.initialize()
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    distributed.initialize()
    assert alone == [("host:1234", 4, 3)]
    monkeypatch.setenv("JAX_PROCESS_ID", "three")
    with pytest.raises(UserError, match="did not find each other"):
        distributed.initialize()


@pytest.mark.parametrize(
    ("name", "value"), [("SLURM_NTASKS", "2"), ("TPU_WORKER_HOSTNAMES", "a,b")]
)
def test_a_launcher_says_so(name, value, alone, monkeypatch):
    monkeypatch.setenv(name, value)
    distributed.initialize()
    assert alone == [()]


def test_who_cannot_be_reached(alone, monkeypatch):
    def unreachable():
        raise RuntimeError("deadline exceeded")

    monkeypatch.setattr(jax.distributed, "initialize", unreachable)
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(UserError, match="deadline exceeded"):
        distributed.initialize()
