"""What tests of checkpoints, and of what goes on from them, begin with."""

import shutil

import pytest
from checkpoints import saved
from runs import small_config, train_run
from starts import VARIANTS


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


@pytest.fixture(scope="session")
def old(byte_store, tmp_path_factory):
    """Of a variant: the workdir of its run of 12 steps."""
    runs = {}

    def run(variant="plain"):
        if variant not in runs:
            runs[variant] = tmp_path_factory.mktemp("old") / "run"
            config = small_config(byte_store, **VARIANTS[variant])
            assert train_run(config, runs[variant])
        return runs[variant]

    return run
