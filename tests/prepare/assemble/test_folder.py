"""Files that appear whole, here and behind a URL."""

import io
import os
import pathlib

import fsspec
import numpy as np
import pytest

from dga_jax import remote
from dga_jax.errors import UserError
from dga_jax.prepare.assemble.folder import Folder


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    if request.param == "local":
        return Folder.of(tmp_path / "deep" / "folder")
    fsspec.filesystem("memory").store.clear()
    return Folder.of("memory://bucket/folder/")


def test_gives_back_what_it_got(folder, tmp_path):
    assert folder.names() == []
    assert not folder.has("a")
    folder.write("a", b"one ", memoryview(b"two"))
    folder.write_json("b.json", {"ü": [1]})
    folder.save("c.npz", x=np.arange(3))
    path = tmp_path / "file"
    path.write_bytes(b"moved")
    (folder / "sub").put(path, "d")
    assert not path.exists()
    assert folder.read("a") == b"one two"
    assert folder.read_json("b.json") == {"ü": [1]}
    assert folder.load("c.npz")["x"].tolist() == [0, 1, 2]
    assert (folder / "sub").read("d") == b"moved"
    assert folder.names() == ["a", "b.json", "c.npz", "sub"]
    folder.remove()
    assert folder.names() == []
    folder.remove()


def test_copies_of_files_for_libraries_that_take_paths(folder, tmp_path):
    folder.write("a", b"one")
    assert (folder.fetch(tmp_path) / "a").read_bytes() == b"one"


def test_damage_is_said(folder):
    buffer = io.BytesIO()
    np.savez(buffer, x=np.arange(100))
    folder.write("x.npz", buffer.getvalue()[:200])
    folder.write("x.json", b"{")
    for read, name in ((folder.load, "x.npz"), (folder.read_json, "x.json")):
        with pytest.raises(UserError, match=f"{folder}/{name} is damaged"):
            read(name)
    with pytest.raises(UserError, match=f"cannot read {folder}"):
        folder.read("nothing")


def test_a_full_disk(tmp_path, monkeypatch):
    folder = Folder.of(tmp_path / "full")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"full/a: No space left on device; free some"):
        folder.write("a", b"text")
    assert os.listdir(folder.path) == []


def test_a_protocol_that_nobody_knows():
    with pytest.raises(UserError, match=r"nowhere://bucket/a: nowhere:// is not known"):
        Folder.of("nowhere://bucket").write("a", b"text")


def test_a_url_that_cannot_be_written(monkeypatch):
    def deny(*_, **__):
        raise PermissionError("403, Forbidden")

    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe", deny)
    said = "cannot write memory://bucket/a: permission denied; ask for access"
    with pytest.raises(UserError, match=said):
        Folder.of("memory://bucket").write("a", b"text")


def test_one_module_knows_fsspec():
    package = pathlib.Path(remote.__file__).parent
    users = {p for p in package.rglob("*.py") if "import fsspec" in p.read_text()}
    assert users == {package / "remote.py"}
