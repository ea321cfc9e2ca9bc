import math

import numpy as np
import pytest
from runs import mesh_of

from dga_jax.data.store import PAD
from dga_jax.evaluate import Evaluator, Group, mixed
from dga_jax.model.loss import RowLosses

ROWS = 5


def nats_of(rows):
    """A made-up loss: each predicted token costs its id / 100 nats."""
    targets = rows[:, 1:]
    return np.where(targets == PAD, 0, targets / 100).sum(axis=1)


class Model:
    """Evaluates with `nats_of`; remembers the shapes it was given."""

    def __init__(self):
        self.shapes = []

    def __call__(self, params, rows):
        rows = np.asarray(rows)
        self.shapes.append(rows.shape)
        count = (rows[:, 1:] != PAD).sum(axis=1).astype(np.float32)
        return RowLosses(nats_of(rows), np.zeros(len(rows)), count)


def evaluator(store, rows=ROWS, target_rows=7, batch_size=8):
    return Evaluator(
        store,
        mesh_of(2, 2, 2),
        rows=rows,
        target_rows=target_rows,
        batch_size=batch_size,
    )


def sums(rows):
    """Nats, tokens and bytes of rows of bytes; the end of text is no byte."""
    targets = rows[:, 1:]
    return (
        nats_of(rows).sum(),
        (targets != PAD).sum(),
        ((targets >= 0) & (targets < 256)).sum(),
    )


def test_metrics_are_ratios_of_sums(byte_store):
    model = Model()
    metrics = evaluator(byte_store)(model, None)
    domains = byte_store.domains()
    by_domain = []
    for i, name in enumerate(domains.names):
        low, high = domains.heldout_offsets[i : i + 2]
        ids = low + np.arange(ROWS) * (high - low) // ROWS
        nats, tokens, size = sums(byte_store.read("heldout", ids))
        assert metrics[f"eval/domain/{name}/loss"] == pytest.approx(nats / tokens)
        assert metrics[f"eval/domain/{name}/bits_per_byte"] == pytest.approx(
            nats / math.log(2) / size
        )
        by_domain.append((nats / ROWS, tokens / ROWS, size / ROWS))
    for weights, key in (
        (np.full(8, 1 / 8), "generic_uniform"),
        (domains.tokens / domains.tokens.sum(), "generic_natural"),
    ):
        nats, tokens, size = weights @ np.array(by_domain)
        assert metrics[f"eval/{key}/loss"] == pytest.approx(nats / tokens)
        assert metrics[f"eval/{key}/bits_per_byte"] == pytest.approx(
            nats / math.log(2) / size
        )
    count = byte_store.num_rows("target_eval")
    ids = np.arange(7) * count // 7
    nats, tokens, _ = sums(byte_store.read("target_eval", ids))
    assert metrics["eval/target/loss"] == pytest.approx(nats / tokens)
    assert set(model.shapes) == {(8, byte_store.seq_len + 1)}


def test_bytes_that_are_not_known_are_not_made_up(byte_store, monkeypatch, capsys):
    """Of a store that an older program made with a tokenizer that changes text."""
    known = evaluator(byte_store)(Model(), None)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("dga_jax.data.row_bytes.has_row_bytes", lambda store: False)
    assert evaluator(byte_store)(Model(), None) == known
    monkeypatch.setattr("dga_jax.data.tokenizer.BytesTokenizer.is_exact", False)
    unknown = evaluator(byte_store)(Model(), None)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"store {byte_store.path} was made before" in said
    for key, value in unknown.items():
        bits = key.endswith("bits_per_byte")
        assert math.isnan(value) if bits else value == known[key]


def test_batches_do_not_matter(byte_store):
    a = evaluator(byte_store, batch_size=8)(Model(), None)
    b = evaluator(byte_store, batch_size=64)(Model(), None)
    assert a == pytest.approx(b, rel=1e-12)


def test_all_target_rows_if_asked(byte_store):
    found = evaluator(byte_store, target_rows=0)(Model(), None)
    rows = byte_store.read("target_eval", np.arange(byte_store.num_rows("target_eval")))
    nats, tokens, _ = sums(rows)
    assert found["eval/target/loss"] == pytest.approx(nats / tokens)


def test_more_rows_than_there_are(byte_store):
    many = evaluator(byte_store, rows=10**6)(Model(), None)
    exact = evaluator(byte_store, rows=int(byte_store.domains().num_heldout[0]))
    key = "eval/domain/austen/loss"
    assert many[key] == exact(Model(), None)[key]


def test_a_mixture_weighs_rows_not_tokens_alike():
    groups = [Group(2, 20.0, 10, 40), Group(4, 4.0, 4, 4)]
    both = mixed(groups, np.array([0.25, 0.75]))
    assert both.loss == pytest.approx((0.25 * 10 + 0.75 * 1) / (0.25 * 5 + 0.75 * 1))


def test_bits_per_byte():
    assert Group(1, 8 * math.log(2), 2, 4).bits_per_byte == pytest.approx(2)
    assert math.isnan(Group(1, 1.0, 2, 0).bits_per_byte)
