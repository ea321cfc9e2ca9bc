"""Trackers get every line once, whatever became of the process that wrote it."""

import importlib.util
import threading

import pytest
from runs import Killed, log_of, small_config, stopped, train_run

from dga_jax.errors import UserError
from dga_jax.logs import metrics, trackers
from dga_jax.logs.tracker_services import BY_NAME, _messages
from dga_jax.training.validation import validate


class Shown:
    """What a service holds, as a tracker; it may be asked to fail."""

    def __init__(self, fails_at=None, lags=0):
        self.rows, self.config, self.starts = [], None, []
        self.fails_at, self.lags = fails_at, lags

    def __call__(self, run):
        self.starts.append(run.identity)
        self.config = run.config
        if self.lags:  # what a killed process did not hand over
            del self.rows[-self.lags :]
        return self

    def last_step(self):
        return self.rows[-1][0] if self.rows else -1

    def write(self, step, values):
        if step == self.fails_at:
            raise ConnectionError("no\nroute")
        assert all(isinstance(value, int | float) for value in values.values())
        self.rows.append((step, values))

    def close(self):
        pass

    @property
    def lines(self):
        """As `log_of` gives them."""
        return [
            {"step": step}
            | {k: v for k, v in values.items() if not k.startswith("perf/")}
            for step, values in self.rows
        ]


@pytest.fixture
def shown(monkeypatch):
    """A tracker by the name of wandb, which need not be installed."""
    service = Shown()
    monkeypatch.setitem(BY_NAME, "wandb", service)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    return service


def finite(lines):
    return [{k: v for k, v in line.items() if v is not None} for line in lines]


@pytest.mark.parametrize("lags", [0, 4])
def test_every_line_once(lags, shown, byte_store, tmp_path, monkeypatch):
    """Killed behind a checkpoint, with lines that it may not have handed over."""
    config = small_config(byte_store, log__trackers="tensorboard,wandb")
    with stopped(monkeypatch, 7, by="kill"), pytest.raises(Killed):
        train_run(config, tmp_path)
    for thread in threading.enumerate():
        if isinstance(thread, trackers.Follower):
            thread.close(complete=True)
    assert [step for step, _ in shown.rows][-1] >= 5
    shown.lags = lags
    assert train_run(config, tmp_path)
    assert shown.lines == finite(log_of(tmp_path))
    assert len(set(shown.starts)) == 1  # the same run to the tracker
    assert shown.config["mixer.interval"] == 3
    assert (tmp_path / "tensorboard").is_dir()


def test_a_tracker_that_came_later_gets_all(shown, byte_store, tmp_path, monkeypatch):
    with stopped(monkeypatch, 6, by="sigterm"):
        assert not train_run(small_config(byte_store, log__trackers=""), tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    assert train_run(small_config(byte_store, log__trackers="wandb"), tmp_path)
    assert shown.lines == finite(log_of(tmp_path))


def test_one_that_fails_is_said_once(shown, byte_store, tmp_path, capsys):
    shown.fails_at = 3
    assert train_run(small_config(byte_store, log__trackers="wandb"), tmp_path)
    said = capsys.readouterr().err
    assert (
        said == "tracker wandb: ConnectionError: no route; the run goes on without it\n"
    )
    assert log_of(tmp_path)[-1]["step"] == 12


def test_one_that_hangs_does_not_stop_the_run(shown, monkeypatch, tmp_path, capsys):
    held = threading.Event()
    shown.write = lambda step, values: held.wait()
    monkeypatch.setattr(trackers, "_STOPPED_SECONDS", 0.01)
    monkeypatch.setattr(trackers, "_PATIENCE_SECONDS", 0.01)
    (follower,) = trackers.follow(["wandb"], tmp_path, {}, list, 0)
    follower.write(0, {"x": 1.0})
    follower.close(complete=False)
    assert capsys.readouterr().err == ""
    follower.close(complete=True)
    assert "it has not taken all in time" in capsys.readouterr().err
    held.set()


def test_names(byte_store, monkeypatch):
    config = small_config(byte_store, log__trackers="wand")
    with pytest.raises(UserError, match=r"log\.trackers=wand: choose from tensorboard"):
        validate(config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config.log.trackers = "tensorboard, mlflow"
    with pytest.raises(UserError, match=r"pip install 'dga_jax\[mlflow\]'"):
        validate(config)
    assert metrics.chosen("tensorboard, ") == ["tensorboard"]
    assert set(BY_NAME) == set(metrics.SERVICES)


def test_a_log_of_leveldb():
    """Whole messages, one cut over blocks of 32 KiB, and a last one that is torn."""
    long = bytes(range(256)) * 256  # 65,536 bytes
    first = 2**15 - 7 - 7 - 10 - 7
    pieces = [(1, b"0123456789"), (2, long[:first])]
    pieces.append((3, long[first : first + 2**15 - 7]))
    pieces += [(4, long[first + 2**15 - 7 :]), (1, b"torn")]
    data = b"1234567"
    for kind, piece in pieces:
        data += bytes(4) + len(piece).to_bytes(2, "little") + bytes([kind]) + piece
    assert list(_messages(data[:-1])) == [b"0123456789", long]


@pytest.mark.slow
@pytest.mark.parametrize("name", metrics.SERVICES)
def test_services(name, byte_store, tmp_path, monkeypatch):
    """The real ones, on this machine: where they are installed."""
    pytest.importorskip(name)
    monkeypatch.setattr(trackers, "_STOPPED_SECONDS", 60.0)  # one after the other
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    steps = []
    write = BY_NAME[name].write

    def counted(self, step, values):
        steps.append(step)
        write(self, step, values)

    monkeypatch.setattr(BY_NAME[name], "write", counted)
    config = small_config(byte_store, log__trackers=name)
    directory = tmp_path / "run"
    for step in (4, 7):
        with stopped(monkeypatch, step, by="sigterm"):
            assert not train_run(config, directory)
    assert train_run(config, directory)
    assert steps == [line["step"] for line in log_of(directory)]
