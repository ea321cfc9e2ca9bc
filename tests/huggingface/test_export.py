"""A run as a directory that `transformers` opens."""

import json

import numpy as np
import pytest
from runs import small_config, train_run

from dga_jax import export
from dga_jax.training import config as configs


@pytest.fixture(scope="module")
def run(byte_store, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    train_run(small_config(byte_store), directory)
    return directory


def test_a_run_opens(run, tmp_path):
    import hf_models

    print(export.export(run, tmp_path / "out"))
    model = hf_models.opened(tmp_path / "out")
    print((tmp_path / "out" / "README.md").read_text())
    print((tmp_path / "out" / "config.json").read_text())
    tok = hf_models.transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    print(tok("hé\n  x<|endoftext|>"))
