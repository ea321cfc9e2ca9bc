"""Two processes with four devices each compute what one does on one device.

They meet, agree, and stop together: with one status, and a line that names whom it was.
"""

import os
import signal
import time

import jax
import pytest
from processes import ended, finish, start
from runs import log_of, small_config, train_run

from dga_jax.errors import Stopped, UserError
from dga_jax.training import distributed

STEPS = 12
FIELDS = {
    "train.steps": STEPS,
    "train.batch_size": 8,
    "model.num_layers": 1,
    "model.d_model": 32,
    "model.num_heads": 4,
    "model.d_ff": 64,
    "optimizer.schedule": "constant",
    "optimizer.warmup_steps": 1,
    "mixer.interval": 3,
    "mixer.eta": 5.0,
    "mixer.probe_rows": 2,
    "mixer.target_rows": 8,
    "eval.every": 4,
    "eval.rows": 2,
    "eval.target_rows": 4,
    "checkpoint.every": 5,
    "log.every": 1,
    "log.console": 100,
}


def launch(store, directory, *extra, of_last=()):
    """Starts both processes on `directory`."""
    flags = ["--config=configs/quickstart.py:debug", "--config.mesh.fsdp=2"]
    flags += [f"--config.{name}={value}" for name, value in FIELDS.items()]
    flags += [f"--config.data.store={store.path}", f"--workdir={directory}"]
    return start(["-m", "dga_jax.main", *flags, *extra], of_last=of_last)


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
    directory = tmp_path / "two"
    processes = launch(byte_store, directory)
    until_step(processes, directory, 6)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = ended(processes)
    steps = [line["step"] for line in log_of(directory)]
    assert steps == list(range(len(steps)))
    assert codes == [143 if steps[-1] < STEPS else 0] * 2  # it may have been quicker
    assert said == [[], []]
    saved = sorted(map(int, os.listdir(directory / "checkpoints")))
    assert saved[-1] == steps[-1]
    newest = directory / "checkpoints" / str(saved[-1])
    (newest / "state" / "manifest.ocdbt").unlink()
    said = finish(launch(byte_store, directory))
    assert (
        "joined 2 processes (JAX_COORDINATOR_ADDRESS), process 0 at localhost:" in said
    )
    assert f"checkpoint {saved[-1]} is damaged" in said
    assert train_run(small_config(byte_store), tmp_path / "one")
    expected_lines = log_of(tmp_path / "one")
    for line, expected in zip(log_of(directory), expected_lines, strict=True):
        assert line.keys() == expected.keys()
        for key, value in expected.items():
            assert line[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
        for key in expected:  # the same rows
            if key.startswith("data/epochs/"):
                assert line[key] == expected[key]


@pytest.mark.slow
def test_weights_that_have_not_moved(byte_store, tmp_path):
    """They are saved and restored; who is left alone ends, and the run goes on."""
    victim = 0  # without whom the other knows of nobody
    flags = ["--config.mixer.interval=50000", "--config.train.steps=100000"]
    flags += ["--config.checkpoint.every=1"]
    for step, how in ((3, signal.SIGKILL), (6, signal.SIGTERM)):
        processes = launch(byte_store, tmp_path, *flags)
        until_step(processes, tmp_path, step)
        processes[victim].send_signal(how)
        codes, said = ended(processes)
        if how == signal.SIGTERM:
            assert (codes, said) == ([143, 143], [[], []])
            continue
        assert codes[victim] == -signal.SIGKILL
        assert codes[1 - victim] == 143
        (line,) = said[1 - victim]
        assert line.startswith(f"error: process {victim}: it is gone")
    steps = [line["step"] for line in log_of(tmp_path)]
    assert steps == list(range(len(steps)))
    assert steps[-1] == max(map(int, os.listdir(tmp_path / "checkpoints")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--config.train.batch_size=16", "config.train.batch_size is 16 here and 8 in"),
        ("--config.data.store=/nowhere", "no store at /nowhere"),
        ("--config.train.stepz=1", "no such config field: stepz"),
        ("--config=nowhere.py", "No such file"),
        ("--workdir=ELSEWHERE", "--workdir is '"),
    ],
)
def test_a_mistake_of_one(flag, words, byte_store, tmp_path):
    """Nobody waits for the one that made it."""
    flag = flag.replace("ELSEWHERE", str(tmp_path / "b"))
    processes = launch(byte_store, tmp_path / "a", of_last=[flag])
    codes, said = ended(processes)
    assert codes == [2, 2]
    assert said[0] == said[1]
    (line,) = said[0]
    assert line.startswith("error: process 1: ")
    assert words in line
    assert not (tmp_path / "a" / "metrics.jsonl").exists()


_LAUNCHERS = ("SLURM_", "TPU_", "OMPI_", "MEGASCALE_", "KUBERNETES_", "JOB_COMPL")
_LAUNCHERS += ("JAX_COORD", "JAX_NUM", "JAX_PROCESS")


@pytest.fixture
def alone(monkeypatch):
    """No trace of a launcher in the environment; records calls to JAX."""
    for name in list(os.environ):
        if name.startswith(_LAUNCHERS):
            monkeypatch.delenv(name)
    calls = []
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *where, **_: calls.append(where)
    )
    return calls


def test_a_single_process_joins_nobody(alone, monkeypatch):
    distributed.initialize()
    monkeypatch.setenv("SLURM_NTASKS", "2")  # of a batch script, which is none of them
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
    "launched",
    [
        {"SLURM_STEP_NODELIST": "a,b", "SLURM_NTASKS": "2"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
        {"TPU_PROCESS_ADDRESSES": "a:1,b:1"},
        {"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
    ],
)
def test_a_launcher_says_so(launched, alone, monkeypatch):
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    distributed.initialize()
    assert alone == [()]


def test_who_cannot_be_reached(alone, monkeypatch):
    def unreachable(**_):
        raise RuntimeError("deadline exceeded")

    monkeypatch.setattr(jax.distributed, "initialize", unreachable)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    with pytest.raises(Stopped, match=r"\(TPU_WORKER_HOSTNAMES\): not all came within"):
        distributed.initialize()


@pytest.mark.parametrize("index", [0, 1])
def test_the_others_do_not_come(index):
    """They may be late: it is not the user's mistake, and a scheduler tries again."""
    script = f"""
import os

if os.environ["JAX_PROCESS_ID"] != "{index}":
    raise SystemExit  # to kill it may be too late
from dga_jax import cli
from dga_jax.training import distributed

distributed._COME_SECONDS = 2
cli.run(lambda _: distributed.initialize(), distributed.tell)
"""
    codes, said = ended(start(["-c", script]))
    assert codes[index] == 143
    (line,) = said[index]
    assert line.startswith("error: the processes of this run did not find each other")


# How a process of three fails, what the others do meanwhile, and what all come to. The
# first in each tuple of messages is of the one that fails.
JOB = """
import os
import signal
import sys
import time

from dga_jax import cli
from dga_jax.training import distributed
import jax
from jax.experimental import multihost_utils
from dga_jax.errors import UserError


def look(folder, name, for_steps):
    from pathlib import Path
    from dga_jax.training import checkpoint, workdir

    distributed._SHOWN_SECONDS = 1
    if not for_steps:
        with workdir.held(Path(folder, name)):
            return
    checkpoint.Checkpoints(Path(folder, name), 3).restore(None)


def main(_):
    distributed._GONE_SECONDS = {gone_seconds}
    distributed.initialize()
    cli.stop_on_sigterm()
    with distributed.together():
        mine = jax.process_index() == {index}
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


cli.run(main, distributed.tell)
"""
COLLECTIVE = "multihost_utils.process_allgather(jax.numpy.ones(1))"


def job(index, first, others="pass", gone_seconds=distributed._GONE_SECONDS):
    """Return codes and lines of stderr, that of process `index` first."""
    script = JOB.format(
        index=index, first=first, others=others, gone_seconds=gone_seconds
    )
    codes, said = ended(start(["-c", script], count=3, devices=1))
    order = [index, *(i for i in range(3) if i != index)]
    return [codes[i] for i in order], [said[i] for i in order]


@pytest.mark.parametrize(
    ("index", "others"),
    [(0, "pass"), (1, "pass"), (0, COLLECTIVE), (1, "time.sleep(1000)")],
    ids=["first, meet", "meet", "first, collective", "sleep"],
)
def test_one_fails(index, others):
    """The others end too, quietly, whatever they do."""
    codes, said = job(index, "raise UserError('a bad file')", others)
    assert codes == [2, 2, 2]
    assert said == [[f"error: process {index}: a bad file"]] * 3


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("others", [COLLECTIVE, "time.sleep(1000)"])
def test_one_is_killed(index, others):
    killed = "os.kill(os.getpid(), signal.SIGKILL)"
    codes, said = job(index, killed, others, gone_seconds=10)
    assert codes == [-signal.SIGKILL, 143, 143]
    gone = f"error: process {index}: it is gone, killed or with its machine; run the"
    assert said == [[], *[[f"{gone} same command to go on"]] * 2]


def test_jax_does_not_notice_before_us():
    """It gives up at half its limit when the last sign was sent as long ago."""
    ours = distributed._GONE_SECONDS + 3 * distributed._LOOK_SECONDS
    assert ours < distributed._JAX_SECONDS / 2


def test_a_defect_of_one():
    """It keeps its traceback, and is not taken for something to go on after."""
    codes, said = job(1, "raise KeyError('x')")
    assert codes == [1, 1, 1]
    assert "Traceback (most recent call last):" in said[0]
    assert said[1:] == [["error: process 1: KeyError: 'x'; see its traceback"]] * 2


def test_those_who_are_done_wait():
    codes, _ = job(1, "time.sleep(3)")
    assert codes == [0, 0, 0]


def test_a_directory_that_is_not_shared(tmp_path):
    """The same step is restored by all, or none: process 0 says which."""
    names = {"a": [3, 5], "b": [3, 5, 7], "c": [3]}
    for name, steps in names.items():
        for step in steps:
            (tmp_path / name / "checkpoints" / str(step)).mkdir(parents=True)
    look = f"look({str(tmp_path)!r}, "
    there = "error: process 1: checkpoint 5 is not seen here, but by process 0"
    for name, words in (
        ("c", there),
        ("nothing", f"error: process 1: --workdir={tmp_path}/nothing: what process 0"),
    ):
        other = "'ba'[jax.process_index() == 0]" if name == "c" else "'a'"
        others = f"{look}{other}, {name == 'c'})"
        codes, said = job(1, f"{look}{name!r}, {name == 'c'})", others)
        assert codes == [2, 2, 2]
        assert said[0] == said[1] == said[2]
        assert said[0][0].startswith(words)
    assert {p.name for p in (tmp_path / "a" / "checkpoints").iterdir()} == {"3", "5"}


def test_one_is_terminated():
    codes, said = job(1, "signal.raise_signal(signal.SIGTERM)")
    assert codes == [143, 143, 143]
    stopped = "error: process 1: stopped by SIGTERM; run the same command to go on"
    assert said == [[stopped]] * 3


def test_alone_it_is_as_if_nothing_were():
    with distributed.together():
        distributed.meet("nobody")
        assert distributed.broadcast({"a": (1, None)}) == {"a": [1, None]}
