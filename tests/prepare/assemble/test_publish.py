import errno
import os

import pytest

from dga_jax.errors import UserError
from dga_jax.prepare.assemble import publish


@pytest.fixture(params=["one file system", "two"])
def directory(request, tmp_path, monkeypatch):
    """A directory that is complete, perhaps on another file system than tmp_path."""
    path = tmp_path / "work" / "store"
    path.mkdir(parents=True)
    (path / "file").write_text("staged")
    if request.param == "two":
        rename = os.replace

        def across(source, target):
            if source == path:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            rename(source, target)

        monkeypatch.setattr(os, "replace", across)
    return path


def test_appears_whole(directory, tmp_path):
    output = tmp_path / "deep" / "out"
    publish.publish(directory, output)
    assert (output / "file").read_text() == "staged"
    assert list(output.parent.iterdir()) == [output]
    assert not directory.exists()


def test_or_not_at_all(directory, tmp_path, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(publish.shutil, "copytree", fail)
    with pytest.raises(KeyboardInterrupt):
        publish.publish(directory, tmp_path / "out" / "store")
    assert not list((tmp_path / "out").iterdir())
    assert (directory / "file").exists()


@pytest.mark.parametrize("empty", [True, False])
def test_never_overwrites(directory, tmp_path, empty):
    output = tmp_path / "out"
    output.mkdir()
    if not empty:
        (output / "file").write_text("first")
    with pytest.raises(FileExistsError):
        publish.publish(directory, output)
    assert [path.read_text() for path in output.iterdir()] == ["first"] * (not empty)


def test_parent_that_cannot_be_written_to(directory, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*(Not a dir|File exists)"):
        publish.publish(directory, tmp_path / "file" / "out")
