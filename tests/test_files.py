"""Files that appear whole."""

import os
import stat

import pytest

from dga_jax.files import replaced


def test_replaced(tmp_path, monkeypatch):
    """On disk before it takes its place, and its name on disk after."""
    done = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor):
        mode = os.fstat(descriptor).st_mode
        done.append("directory" if stat.S_ISDIR(mode) else "file")
        sync(descriptor)

    def rename(*names):
        done.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    with replaced(tmp_path / "x") as file:
        file.write(b"new")
    assert done == ["file", "rename", "directory"]
    assert os.listdir(tmp_path) == ["x"]


def test_not_replaced(tmp_path):
    """What fails leaves what was there."""
    (tmp_path / "x").write_bytes(b"old")

    def fail():
        with replaced(tmp_path / "x") as file:
            file.write(b"ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
