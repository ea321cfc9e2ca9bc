"""Continued pretraining: what a run has learnt serves another, through a directory."""

from pathlib import Path

import pytest
from runs import DECAYING, log_of, mesh_of, small_config, train_run
from test_begun import train

from dga_jax import export
from dga_jax.data.store import Store
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import Shard
from dga_jax.tokenizer import BytesTokenizer
from dga_jax.training import placement

STEPS = 24
LOSS = "eval/target/loss"


@pytest.fixture
def stores(byte_corpora, tmp_path):
    """Two that share no text: three domains each, and the target."""
    shards = byte_corpora["generic"].shards
    lines = Path(*shards[0].paths).read_text().splitlines(keepends=True)
    novels = []
    for i, name in enumerate(("steer", "eval")):
        file = tmp_path / f"austen.{name}.jsonl"
        file.write_text("".join(lines[i::2]))
        novels.append(Corpus((Shard.of(file),)))
    made = []
    for name, generic, target, target_eval in (
        ("first", shards[1:6:2], byte_corpora["target"], byte_corpora["target_eval"]),
        ("second", shards[2:8:2], *novels),
    ):
        prepare_store(
            generic=Corpus(generic),
            target=target,
            target_eval=target_eval,
            tokenizer=BytesTokenizer(),
            seq_len=32,
            output=tmp_path / name,
        )
        made.append(Store.open(tmp_path / name))
    return made


@pytest.mark.slow
def test_it_ends_better_than_from_scratch(stores, tmp_path, monkeypatch):
    """In the same steps, on a target and a store that the first run has not seen."""
    monkeypatch.setattr(placement, "make_mesh", lambda config: mesh_of(1, 1, 1))
    fields = DECAYING | {"mixer__name": "static"}
    old = small_config(stores[0], **fields, train__steps=4 * STEPS)
    assert train_run(old, tmp_path / "old")
    export.export(tmp_path / "old", tmp_path / "model")
    losses = {}
    for name, origin in {"scratch": "", "continued": tmp_path / "model"}.items():
        config = small_config(stores[1], **fields, train__steps=STEPS)
        config.model["from"] = str(origin)
        assert train(config, tmp_path / name)[1]
        lines = log_of(tmp_path / name)
        losses[name] = [line[LOSS] for line in lines if LOSS in line]
        assert lines[-1]["step"] == STEPS
    scratch, continued = losses["scratch"], losses["continued"]
    assert continued[0] < scratch[0] - 1
    assert continued[-1] < scratch[-1] - 0.5
