"""What tests of checkpoints begin with."""

import shutil

import pytest
from checkpoints import saved


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A workdir with checkpoints of steps 9 and 10; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("template")
    saved(folder, [9, 10])
    return folder


@pytest.fixture
def copy(template, tmp_path):
    shutil.copytree(template / "checkpoints", tmp_path / "checkpoints")
    return tmp_path
