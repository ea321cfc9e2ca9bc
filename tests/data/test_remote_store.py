"""Stores behind a URL: one copy of each content, whole or not at all."""

import concurrent.futures
import json
import os
import shutil
import threading

import fsspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dga_jax.data import remote_store
from dga_jax.data.remote_store import local_store
from dga_jax.data.store import BASES, MANIFEST, Store
from dga_jax.errors import UserError
from dga_jax.files import local_path
from dga_jax.training import workdir

URL = "memory://bucket/store"


@pytest.fixture
def bucket(byte_store):
    """A bucket that holds a store; its file system."""
    memory = fsspec.filesystem("memory")
    for path in byte_store.path.iterdir():
        memory.pipe(f"/bucket/store/{path.name}", path.read_bytes())
    yield memory
    memory.rm("/bucket", recursive=True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a current directory in which nothing must appear."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    yield tmp_path / "cache"
    assert not list(here.iterdir())


def copied(cache):
    return sorted(p.name for p in cache.iterdir() if not p.name.startswith("."))


def same(path, store):
    names = {p.name for p in path.iterdir()}
    assert names == {p.name for p in store.path.iterdir()}
    assert all(
        (path / name).read_bytes() == (store.path / name).read_bytes() for name in names
    )


def test_a_copy_for_all(bucket, cache, byte_store, capsys):
    """Those that come at once wait for the one that copies; later, nothing is said."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        (path,) = set(pool.map(local_store, [URL] * 3, [str(cache)] * 3))
    same(path, byte_store)
    said = capsys.readouterr().out
    assert said.count(f"copying {URL} (") == 1
    assert local_store(f"{URL}/", str(cache)) == path
    assert not capsys.readouterr().out
    rows = Store.open(path).read("train", np.arange(3))
    np.testing.assert_array_equal(rows, byte_store.read("train", np.arange(3)))


def test_a_store_made_anew_is_another_copy(bucket, cache, byte_store):
    first = local_store(URL, str(cache))
    manifest = json.loads(bucket.cat("/bucket/store/manifest.json"))
    manifest["content_hash"] = "another"
    bucket.pipe("/bucket/store/manifest.json", json.dumps(manifest).encode())
    second = local_store(URL, str(cache))
    assert first != second
    assert Store.open(second).content_hash == "another"
    same(first, byte_store)


def test_bases_made_later_come_along(bucket, cache):
    assert not (local_store(URL, str(cache)) / BASES).exists()
    for content in (b"one", b"another"):
        bucket.pipe(f"/bucket/store/{BASES}/mmlu.npz", content)
        path = local_store(URL, str(cache))
        assert (path / BASES / "mmlu.npz").read_bytes() == content


def test_what_is_damaged_there_is_no_copy(bucket, cache, byte_store):
    """Nor is what came before thrown away: once it is mended, the rest is copied."""
    victim = max(byte_store.manifest["files"])
    whole = bucket.cat(f"/bucket/store/{victim}")
    for broken in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], b""):
        bucket.pipe(f"/bucket/store/{victim}", broken)
        with pytest.raises(UserError, match=f"{victim} has .* bytes with SHA-256"):
            local_store(URL, str(cache))
        assert copied(cache) == []
    bucket.pipe(f"/bucket/store/{victim}", whole)
    others = set(byte_store.manifest["files"]) - {victim}
    for name in others:  # they are not read again
        bucket.rm(f"/bucket/store/{name}")
    same(local_store(URL, str(cache)), byte_store)


def test_killed_at_any_file(bucket, cache, byte_store, monkeypatch):
    """What is there under the name of a copy is a whole one."""
    files = len(byte_store.manifest["files"])
    count, lock = [0], threading.Lock()
    replaced = remote_store.replaced
    stop_at = [0]

    def counted(path):
        with lock:
            count[0] += 1
            if count[0] == stop_at[0]:
                raise KeyboardInterrupt
        return replaced(path)

    monkeypatch.setattr(remote_store, "replaced", counted)
    for stop_at[0] in range(1, files + 2):  # the manifest is one, too
        count[0] = 0
        place = cache / str(stop_at[0])
        with pytest.raises(KeyboardInterrupt):
            local_store(URL, str(place))
        assert copied(place) == []
        same(local_store(URL, str(place)), byte_store)


def test_no_room(bucket, cache, monkeypatch):
    usage = shutil.disk_usage(os.sep)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"a copy takes .* MB, .* 0.0 MB are free"):
        local_store(URL, str(cache))
    assert copied(cache) == []


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "no such file"),
        (b"{", "its manifest.json is damaged"),
        (b'{"files": {"../../x": {"bytes": 1, "sha256": ""}}}', "names '../../x'"),
    ],
)
def test_no_store_there(manifest, words, bucket, cache):
    if manifest is None:
        bucket.rm(f"/bucket/store/{MANIFEST}")
    else:
        bucket.pipe(f"/bucket/store/{MANIFEST}", manifest)
    with pytest.raises(UserError, match=words):
        local_store(URL, str(cache))
    assert not cache.exists() or copied(cache) == []


def test_a_file_url_is_a_path(bucket, cache, byte_store):
    assert local_store(f"file://{byte_store.path}", str(cache)) == byte_store.path
    assert local_store(str(byte_store.path)) == byte_store.path
    assert not cache.exists()
    with pytest.raises(UserError, match="not a path of this machine"):
        local_store(URL, "gs://bucket/cache")


_SCHEMES = st.from_regex(r"[a-z][a-z0-9+]{0,6}", fullmatch=True)
_PATHS = st.text(st.sampled_from("abc/._-"), max_size=12)


@given(_SCHEMES, _PATHS)
@example("file", "/a/b")
def test_no_url_is_taken_for_a_path(scheme, path):
    url = f"{scheme}://{path}"
    if scheme == "file" and path.startswith("/"):
        assert str(local_path("--x", url, "")) == str(local_path("--x", path, ""))
        return
    with pytest.raises(UserError, match=r"--workdir=.*mount the bucket"):
        workdir.of_flag(url)
