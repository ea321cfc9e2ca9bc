import multiprocessing
import os
import shutil
from concurrent import futures

import pytest

from dga_jax.data.store import Store
from dga_jax.errors import UserError
from dga_jax.prepare import sample
from dga_jax.stores import find_store


def test_is_small_and_has_its_notices():
    files = [path for path in sample.SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6e6
    readme = (sample.SAMPLE / "README.md").read_text()
    for path in sample.SAMPLE.glob("*/*"):
        assert f"{path.parent.name}/{path.name}" in readme


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Where it lies in a cache of its own."""
    return find_store("sample", 64, tmp_path_factory.mktemp("cache"))


def test_prepared_once(prepared, monkeypatch):
    path, cache = prepared, prepared.parent
    assert list(cache.iterdir()) == [path]
    store = Store.open(path)
    assert store.seq_len == 64
    assert store.vocab_size == 2048

    def prepare_again(**_):
        pytest.fail("it was there")

    monkeypatch.setattr(sample, "prepare_store", prepare_again)
    assert find_store("sample", 64, cache) == path


def test_runs_side_by_side(tmp_path):
    # Processes, as in real life; spawned, because the tokenizer has threads of its own.
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        paths = set(pool.map(find_store, ["sample"] * 2, [256] * 2, [tmp_path] * 2))
    assert len(paths) == 1
    assert list(tmp_path.iterdir()) == list(paths)
    Store.open(paths.pop())


def test_the_slower_of_two_takes_what_the_quicker_made(prepared, tmp_path, monkeypatch):
    prepare = sample.prepare_store

    def prepare_after_another(**arguments):
        shutil.copytree(prepared, arguments["output"])
        prepare(**arguments)

    monkeypatch.setattr(sample, "prepare_store", prepare_after_another)
    path = find_store("sample", 64, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_where_the_cache_is(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(sample, "prepare_store", lambda **a: made.append(a["output"]))
    monkeypatch.setattr(Store, "open", lambda path: None)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("DGA_JAX_CACHE", raising=False)
    find_store("sample", 64)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    find_store("sample", 64)
    monkeypatch.setenv("DGA_JAX_CACHE", str(tmp_path / "own"))
    find_store("sample", 64)
    find_store("sample", 32)
    parents = [os.path.relpath(path.parent, tmp_path) for path in made]
    assert parents == ["home/.cache/dga_jax", "xdg/dga_jax", "own", "own"]
    assert made[2].name == made[1].name != made[3].name


def test_a_cache_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to the cache .*DGA_JAX_CACHE"):
        find_store("sample", 64, tmp_path / "file" / "cache")


def test_a_cache_that_was_damaged(prepared, tmp_path):
    path = shutil.copytree(prepared, tmp_path / prepared.name)
    (path / "token_bytes.npy").unlink()
    with pytest.raises(UserError, match=rf"token_bytes\.npy.*remove {path}"):
        find_store("sample", 64, tmp_path)


def test_a_sample_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("dga_jax.data.sample.SAMPLE", tmp_path / "sample")
    with pytest.raises(UserError, match="sample"):
        find_store("sample", 64, tmp_path)
