"""Files and directories that appear whole."""

import errno
import os
import pathlib
import stat

import numpy as np
import pytest

from dga_jax.errors import ExitStatus, UserError, exit_status, one_line
from dga_jax.experiment import results
from dga_jax.files import appear, local_path, read_arrays, replaced
from dga_jax.logs import plot
from dga_jax.logs.metrics import LOG_NAME, MetricsWriter
from dga_jax.page import markup
from dga_jax.prepare.assemble.folder import Folder
from dga_jax.prepare.commands import page


@pytest.fixture
def done(monkeypatch):
    """What reaches the disk, in order: "file", "directory", "rename"."""
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
    return done


def test_replaced(tmp_path, done):
    """On disk before it takes its place, and its name on disk after."""
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


def test_a_directory_with_all_that_is_in_it(tmp_path, done):
    (tmp_path / "aside" / "inner").mkdir(parents=True)
    (tmp_path / "aside" / "inner" / "x").write_bytes(b"new")
    appear(tmp_path / "aside", tmp_path / "there")
    assert sorted(done[:-2]) == ["directory", "directory", "file"]
    assert done[-2:] == ["rename", "directory"]
    assert (tmp_path / "there" / "inner" / "x").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["there"]


class _Store:
    path = pathlib.Path("store")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: plot.draw(path, "run", [{"step": 1}], None),
        lambda path: page.write(path, _Store, []),
        lambda path: MetricsWriter(path.parent, first_step=1),
    ],
    ids=["plot", "page", "log"],
)
def test_a_full_disk_leaves_what_was_there(write, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path, content = tmp_path / LOG_NAME, b'{"step": 0}\n{"step": 1}\n'
    path.write_bytes(content)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((OSError, UserError), match="No space left"):
        write(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [LOG_NAME]


_TWO = np.arange(2)
_RUNS = [("run", _TWO, _TWO)]


def _a_folder(path):
    path.mkdir()


def _no_folder_above(path):
    path.parent.rmdir()


def _a_file_above(path):
    path.parent.rmdir()
    path.parent.touch()


def _a_pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [_a_folder, _no_folder_above, _a_file_above, _a_pipe])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: plot.draw(path, "run", [{"step": 1}], None),
        lambda path: plot.draw_front(path, _RUNS, [_TWO > 0], ("a", "b")),
        lambda path: markup.write(path, "run"),
        lambda path: page.write(path, _Store, []),
        lambda path: results.write(path, {}),
    ],
    ids=["plot", "front", "page of a run", "page of a store", "result"],
)
def test_what_cannot_be_written_is_one_line(write, spoil, tmp_path):
    path = tmp_path / "folder" / "x"
    path.parent.mkdir()
    spoil(path)
    with pytest.raises(UserError, match=f"^cannot write {path}: [^\n]+; [^\n]+$"):
        write(path)
    assert {p.name for p in tmp_path.rglob("*")} <= {"folder", "x"}
    assert not path.is_file()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_the_system_refuses_is_the_users_to_put_right(number):
    error = OSError(number, os.strerror(number), "/some/where")
    assert exit_status(error) == ExitStatus.USER_ERROR
    said = f"/some/where: {os.strerror(number)}; see to it and run again"
    assert one_line(error) == said
    assert exit_status(OSError(number, "of no file")) == ExitStatus.DEFECT


@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_arrays(path, "make it again"),
        lambda path: Folder.of(path.parent).load(path.name),
    ],
    ids=["read_arrays", "Folder.load"],
)
def test_arrays_of_which_a_byte_is_another(read, tmp_path):
    """They are read, where the byte says nothing, or the user is told in a line."""
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(5))
    content, said = path.read_bytes(), []
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 255]) + content[i + 1 :])
        try:
            read(path)
        except UserError as error:
            said.append(str(error))
    assert len(said) > 200
    assert all(str(path) in line for line in said)


@pytest.mark.parametrize("name", ["\udcff", "runs/\udcc3\udcff/x", "file:///\ud800"])
def test_a_name_that_is_no_text_is_refused(name):
    """No log, plot or page could hold it; any other they can."""
    with pytest.raises(UserError, match=r"^--workdir='.*': its bytes are no") as found:
        local_path("--workdir", name, "")
    assert str(found.value).isascii()
    assert str(local_path("--workdir", "läufe/\u3000x", "")) == "läufe/\u3000x"
