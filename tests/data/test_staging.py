import pytest

from dga_jax.data.staging import staged
from dga_jax.errors import UserError


def stage(output, interfere=lambda: None):
    with staged(output) as staging:
        (staging / "file").write_text("staged")
        assert not output.exists()
        interfere()


def test_appears_whole(tmp_path):
    output = tmp_path / "deep" / "out"
    stage(output)
    assert (output / "file").read_text() == "staged"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_or_not_at_all(tmp_path, error):
    def fail():
        raise error

    with pytest.raises(error):
        stage(tmp_path / "out", fail)
    assert not list(tmp_path.iterdir())


def test_never_overwrites(tmp_path):
    output = tmp_path / "out"

    def be_quicker():
        output.mkdir()
        (output / "file").write_text("first")

    for interfere in (be_quicker, lambda: pytest.fail("cannot end well")):
        with pytest.raises(FileExistsError):
            stage(output, interfere)
        assert (output / "file").read_text() == "first"
        assert list(tmp_path.iterdir()) == [output]


def test_parent_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*Not a directory"):
        stage(tmp_path / "file" / "out")
