"""Programs that are compiled ahead, and kept from one start to the next."""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import threading
import types

import forks
import jax
import pytest
from processes import ROOT
from runs import log_of, parts_of, small_config, train_run

from dga_jax.errors import UserError
from dga_jax.files import cache_directory
from dga_jax.mixing import mixers
from dga_jax.training import loop, programs, workdir
from dga_jax.training.setup import open_run
from dga_jax.training.steps import Steps

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_enable_xla_caches",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def untold(tmp_path, monkeypatch):
    """JAX was told of no folder, and the cache directory is `tmp_path`."""
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    monkeypatch.setenv("DGA_JAX_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_where_programs_are_kept(untold, tmp_path):
    programs.keep_compiled("")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "compiled")
    assert jax.config.jax_persistent_cache_min_compile_time_secs < 1
    programs.keep_compiled("", cache="/somewhere/else")  # JAX has been told already
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "compiled")
    programs.keep_compiled(str(tmp_path / "mine"))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert jax.config.jax_persistent_cache_enable_xla_caches != "none"
    programs.keep_compiled("gs://bucket/compiled")
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/compiled"
    assert jax.config.jax_persistent_cache_enable_xla_caches == "none"
    programs.keep_compiled("off")
    assert not jax.config.jax_enable_compilation_cache


def test_nowhere_to_keep_programs(untold, tmp_path, monkeypatch):
    """A mistake if it was asked for; a home that cannot be written to is none."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"config\.compile_cache=.*file/a: cannot be"):
        programs.keep_compiled(str(tmp_path / "file" / "a"))
    monkeypatch.setenv("DGA_JAX_CACHE", str(tmp_path / "file" / "b"))
    programs.keep_compiled("")
    assert not jax.config.jax_compilation_cache_dir


def test_no_home_to_keep_programs_in(untold, monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    for variable in ("DGA_JAX_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UserError, match=r"no home directory .* set DGA_JAX_CACHE"):
        cache_directory()
    programs.keep_compiled("")
    assert not jax.config.jax_compilation_cache_dir
    with pytest.raises(
        UserError, match=r"config\.compile_cache=~/a: cannot be written"
    ):
        programs.keep_compiled("~/a")


@pytest.mark.parametrize(("platform", "kept"), [("gpu", False), ("tpu", True)])
def test_processes_need_a_shared_folder_on_gpus(untold, monkeypatch, platform, kept):
    """They keep programs only in one that was named."""
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    programs.keep_compiled("")
    assert bool(jax.config.jax_compilation_cache_dir) == kept
    programs.keep_compiled("gs://bucket/compiled")
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/compiled"


def all_is_compiled():
    """Waits for the thread that begins to compile, and for what it does at its end."""
    for thread in threading.enumerate():
        if thread.name.endswith("(begin)"):
            thread.join()


def no_lowering(*arguments):
    raise AssertionError("compiled at its first call")


@pytest.mark.parametrize(
    ("mesh", "fields"),
    [
        ((1, 1, 1), {"train__microbatches": 2, "mixer__target_rows": 6}),
        ((2, 2, 1), {"mixer__probe_domains": 3, "mixer__target_rows": 6}),
    ],
)
def test_what_is_compiled_ahead_is_what_runs(mesh, fields, byte_store, tmp_path):
    """Also where batches are filled up for the mesh; a resumed run does it again."""
    config = small_config(byte_store, **fields)
    assert train_run(config, tmp_path / "plain", mesh)
    directory = tmp_path / "ahead"
    for _ in range(2):
        mixers.update.clear_cache()
        with workdir.locked(directory):
            run = open_run(parts_of(config, mesh), directory, ahead=True)
            assert set(run.programs) == {"train", "evaluate", "align"}
            compiled = {name: f.result() for name, f in run.programs.items()}
            assert all(callable(program) for program in compiled.values())
            all_is_compiled()
            assert mixers.update._cache_size() == 1
            step = types.SimpleNamespace(lower=no_lowering)
            object.__setattr__(run, "steps", type(run.steps)(*[step] * 4))
            assert loop.train(run)
        assert mixers.update._cache_size() == 1
        assert log_of(directory) == log_of(tmp_path / "plain")
        shutil.rmtree(directory / "checkpoints" / "12")


def to_be_compiled(config, directory):
    with workdir.locked(directory):
        run = open_run(parts_of(config), directory, ahead=True)
        run.checkpoints.close()
    return set(run.programs)


@pytest.mark.parametrize(
    "fields",
    [{"mixer__name": "static"}, {"train__steps": 2}, {"mixer__start": 13}],
)
def test_no_update_ever_comes(fields, byte_store, tmp_path):
    config = small_config(byte_store, **fields)
    assert to_be_compiled(config, tmp_path) == {"train", "evaluate"}


def test_nothing_is_compiled_in_vain(byte_store, tmp_path):
    """The only update follows step 3."""
    config = small_config(byte_store, train__steps=5, checkpoint__every=4)
    assert to_be_compiled(config, tmp_path) == {"train", "evaluate", "align"}
    assert train_run(config, tmp_path)
    assert to_be_compiled(config, tmp_path) == set()
    shutil.rmtree(tmp_path / "checkpoints" / "5")
    assert to_be_compiled(config, tmp_path) == {"train", "evaluate"}


def test_what_cannot_be_compiled_is_said_when_it_is_needed(byte_store, tmp_path):
    class Odd:
        def lower(self, *arguments):
            return types.SimpleNamespace(compile=self.compile)

        def compile(self):
            raise RuntimeError("out of memory")

    config = small_config(byte_store)
    with workdir.locked(tmp_path):
        run = open_run(parts_of(config), tmp_path)
        steps = run.steps._replace(train=Odd())
        ahead = programs.compile_ahead(steps, {"train": ()})
        steps = programs.compiled(steps, contextlib.nullcontext, ahead)
        with pytest.raises(RuntimeError, match="out of memory"):
            steps.train(run.snapshot.train, None)
        run.checkpoints.close()


class Doubling:
    """Stands for steps that are compiled in no time."""

    def lower(self, *arguments):
        return types.SimpleNamespace(compile=lambda: lambda x: 2 * x)


class Ending(Doubling):
    def lower(self, *arguments):
        raise SystemExit


@pytest.mark.parametrize(
    ("refused", "known"), [("finish", {"train", "align"}), ("begin", set())]
)
def test_no_thread_is_to_be_had(monkeypatch, refused, known):
    """Then programs are compiled one after the other, or when they are called."""

    class Scarce(threading.Thread):
        def start(self):
            if self._target.__name__ == refused:
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(threading, "Thread", Scarce)
    steps = Steps(*[Doubling()] * 4)
    ahead = programs.compile_ahead(steps, {"train": (), "align": ()})
    assert set(ahead) == known
    for program in ahead.values():
        assert program.result(timeout=60)(3) == 6
    assert programs.compiled(steps, contextlib.nullcontext, ahead).train(3) == 6


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_ended():
    steps = Steps(Doubling(), Ending(), *[Doubling()] * 2)
    ahead = programs.compile_ahead(steps, dict.fromkeys(Steps._fields, ()))
    assert ahead["train"].result(timeout=60)(3) == 6
    for name in ("evaluate", "align"):
        with pytest.raises(RuntimeError, match=f"{name} was not compiled"):
            ahead[name].result(timeout=60)


@pytest.mark.slow
def test_a_run_goes_on_with_kept_programs(byte_store, tmp_path):
    """Kept ones, ones just compiled, and what is left of kept ones: all the same."""
    kept = tmp_path / "kept"
    small = "debug,model.num_layers=1,model.d_model=32,model.d_ff=64,mixer.interval=3"
    small += ",train.steps=8,checkpoint.every=4,eval.every=4"
    flags = [
        f"--config=configs/quickstart.py:{small}",
        f"--config.data.store={byte_store.path}",
    ]
    of_one = {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=1")}
    names = ("train_step", "losses", "align")

    def entries():
        return {
            path.name
            for path in kept.glob("*-cache")
            if any(name in path.name for name in names)
        }

    def command(directory):
        where = (f"--workdir={directory}", f"--config.compile_cache={kept}")
        return ["-m", "dga_jax.main", *flags, *where]

    # No fork: its sets of strings have an order of their own, which no key depends on.
    cold = [sys.executable, *command(tmp_path / "cold")]
    subprocess.run(cold, cwd=ROOT, env=os.environ | of_one, check=True)
    first = entries()
    assert all(name in " ".join(first) for name in names)
    for case in ("warm", "torn"):
        shutil.copytree(tmp_path / "cold", tmp_path / case)
        shutil.rmtree(tmp_path / case / "checkpoints" / "8")
        if case == "torn":
            for path in kept.glob("*-cache"):
                os.truncate(path, path.stat().st_size // 2)
        done = forks.run(command(tmp_path / case), ROOT, os.environ | of_one)
        assert done.returncode == 0, done.stderr
        assert log_of(tmp_path / case) == log_of(tmp_path / "cold")
        assert ("cache entry for 'jit_train_step'" in done.stderr) == (case == "torn")
        if case == "warm":  # else there are entries by other keys
            assert entries() == first
