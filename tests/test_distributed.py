"""Two processes with four devices each compute what one does on one device.

They meet, agree, and stop together.
"""

import os
import signal
import time

import jax
import pytest
from processes import finish, start
from runs import log_of, small_config, train_run

from dga_jax import distributed
from dga_jax.errors import UserError

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


def launch(store, directory):
    """Starts both processes on `directory`."""
    flags = ["--config=configs/quickstart.py:debug", "--config.mesh.fsdp=2"]
    flags += [f"--config.{name}={value}" for name, value in FIELDS.items()]
    flags += [f"--config.data.store={store.path}", f"--workdir={directory}"]
    return start(["-m", "dga_jax.main", *flags])


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


# How a process of three fails, what the others do meanwhile, and what all come to. The
# first in each tuple of messages is of the one that fails.
ANOTHER = "error: another process of this job has stopped; see its message"
JOB = """
import jax
import sys
import time
from jax.experimental import multihost_utils
from dga_jax import cli, distributed
from dga_jax.errors import UserError


def main(_):
    distributed.initialize()
    mine = jax.process_index() == {index}
    with distributed.together():
        for _ in range(2):
            distributed.meet("a place to meet again")
            agreed = distributed.broadcast({{"of": jax.process_index()}})
            assert agreed == {{"of": 0}}
        if mine:
            {first}
        else:
            {others}
        distributed.meet("the end")
    print("done")


cli.run(main)
"""


def job(index, first, others="pass"):
    """Return codes and last lines of stderr, that of process `index` first."""
    script = JOB.format(index=index, first=first, others=others)
    processes = start(["-c", script], count=3, devices=1)
    said = [process.communicate(timeout=60)[1].strip() for process in processes]
    codes = [process.returncode for process in processes]
    order = [index, *(i for i in range(3) if i != index)]
    return [codes[i] for i in order], [said[i].splitlines()[-1:] for i in order]


@pytest.mark.parametrize(
    ("index", "others"),
    [
        (0, "pass"),
        (1, "pass"),
        (0, "multihost_utils.process_allgather(jax.numpy.ones(1))"),
        (1, "time.sleep(50)"),
    ],
    ids=["first, meet", "meet", "first, collective", "sleep"],
)
def test_one_fails(index, others):
    """The others end too, quietly, whatever they do."""
    began = time.monotonic()
    codes, said = job(index, "raise UserError('a bad file')", others)
    assert codes == [2, 2, 2]
    assert said == [["error: a bad file"], [ANOTHER], [ANOTHER]]
    assert time.monotonic() - began < 40


def test_those_who_are_done_wait():
    codes, _ = job(1, "time.sleep(3)")
    assert codes == [0, 0, 0]


def test_those_with_a_limit_do_not_wait_longer():
    limited = "distributed.meet('the file', timeout=1)"
    codes, said = job(1, "time.sleep(50)", limited)
    assert codes == [2, 2, 2]
    late = "after 1 s not all processes of this job have come to 'the file'"
    assert any(line[0].startswith(f"error: {late}") for line in said[1:])
    assert said[0] == [ANOTHER]


def test_one_is_terminated():
    terminate = "import signal; signal.raise_signal(signal.SIGTERM)"
    codes, said = job(1, terminate)
    assert codes == [2, 2, 2]
    assert said[0] == ["error: stopped by SIGTERM; run the same command to go on"]
    assert said[1:] == [[ANOTHER], [ANOTHER]]


def test_alone_it_is_as_if_nothing_were():
    with distributed.together():
        distributed.meet("nobody", timeout=1)
        assert distributed.broadcast({"a": (1, None)}) == {"a": [1, None]}
