import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import mesh_of

from dga_jax.data.answers import Answers
from dga_jax.data.domains import Targets
from dga_jax.data.store import PAD, Domains, Store
from dga_jax.model.loss import RowLosses
from dga_jax.training.evaluate import Evaluator, Group

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


def test_the_loss_of_a_text_is_a_ratio_of_sums(byte_store):
    model = Model()
    found = evaluator(byte_store)(model, None)
    domains = byte_store.domains()
    assert list(found.names) == list(domains.names)
    for i in range(len(domains)):
        low, high = domains.heldout_offsets[i : i + 2]
        ids = low + np.arange(ROWS) * (high - low) // ROWS
        nats, tokens, size = sums(byte_store.read("heldout", ids))
        assert found.losses[i] == pytest.approx(nats / tokens)
        bits = nats / math.log(2) / size
        assert found.bits_per_byte[i] == pytest.approx(bits)
    count = byte_store.num_rows("target_eval")
    ids = np.arange(7) * count // 7
    nats, tokens, _ = sums(byte_store.read("target_eval", ids))
    assert found.metrics["eval/target/loss"] == pytest.approx(nats / tokens)
    assert set(model.shapes) == {(8, byte_store.seq_len + 1)}


class Uneven:
    """A store whose held-out rows are full to a different degree in each domain.

    Args:
      full: of each domain, how many tokens each of its held-out rows predicts.
      tokens: of each domain, for training.
    """

    seq_len = 16
    answers = None
    targets = Targets((), np.array([0, 3]), np.array([0, 3]))
    token_bytes = np.array([1, 2, 3] * 100)

    def __init__(self, full, tokens):
        self.path, self.manifest = "uneven", {"files": {}}
        rng = np.random.default_rng(0)
        lengths = np.array([count for rows in full for count in rows], int)
        rows = rng.integers(0, 300, (len(lengths), self.seq_len + 1))
        self.rows = np.where(np.arange(17) <= lengths[:, None], rows, PAD)
        ends = np.cumsum([0, *map(len, full)])
        names = [f"d{i}" for i in range(len(full))]
        self.of = Domains(names, np.arange(len(full) + 1), ends, np.array(tokens))

    def domains(self, level):
        return self.of

    def tokenizer(self):
        return types.SimpleNamespace(is_exact=True, token_bytes=self.token_bytes)

    def num_rows(self, split):
        return 3

    def read(self, split, ids):
        return self.rows[ids] if split == "heldout" else self.rows[[0, 0, 0]]

    def row_bytes(self, split, ids):
        return Store.token_sums(self, self.read(split, ids)).astype(float)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 16), max_size=4), st.integers(1, 10**6)),
        min_size=1,
        max_size=6,
    ).filter(lambda domains: any(rows for rows, _ in domains))
)
def test_a_domain_counts_as_its_weight_says(domains):
    """Σ w_i loss_i, however many held-out rows there are and however full they are."""
    full, tokens = zip(*domains, strict=True)
    found = evaluator(Uneven(full, tokens))(Model(), None)
    has_rows = np.array([bool(rows) for rows in full])
    natural = np.array(tokens) * has_rows / np.sum(np.array(tokens)[has_rows])
    for unit, values in (
        ("loss", found.losses),
        ("bits_per_byte", found.bits_per_byte),
    ):
        np.testing.assert_array_equal(np.isnan(values), ~has_rows)
        mean = np.nanmean(values)
        assert found.metrics[f"eval/generic_uniform/{unit}"] == pytest.approx(mean)
        mean = np.nansum(natural * values)
        assert found.metrics[f"eval/generic_natural/{unit}"] == pytest.approx(mean)


def test_bytes_that_are_not_known_are_not_made_up(byte_store, monkeypatch, capsys):
    """Of a store that an older program made with a tokenizer that changes text."""
    known = evaluator(byte_store)(Model(), None).metrics
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("dga_jax.data.store.Store.has_row_bytes", False)
    assert evaluator(byte_store)(Model(), None).metrics == known
    monkeypatch.setattr("dga_jax.tokenizer.BytesTokenizer.is_exact", False)
    unknown = evaluator(byte_store)(Model(), None).metrics
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"store {byte_store.path} was made before" in said
    for key, value in unknown.items():
        bits = key.endswith("bits_per_byte")
        assert math.isnan(value) if bits else value == known[key]
    answers = Answers((ord(" "),), byte_store.end_of_text)
    monkeypatch.setattr(byte_store, "answers", answers)
    evaluator(byte_store)
    assert "bits per byte are not known: those of answers" in capsys.readouterr().out


def test_batches_do_not_matter(byte_store):
    a = evaluator(byte_store, batch_size=8)(Model(), None)
    b = evaluator(byte_store, batch_size=64)(Model(), None)
    assert a.metrics == pytest.approx(b.metrics, rel=1e-12)
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-12)


def test_all_target_rows_if_asked(byte_store):
    found = evaluator(byte_store, target_rows=0)(Model(), None)
    rows = byte_store.read("target_eval", np.arange(byte_store.num_rows("target_eval")))
    nats, tokens, _ = sums(rows)
    assert found.metrics["eval/target/loss"] == pytest.approx(nats / tokens)


def test_more_rows_than_there_are(byte_store):
    many = evaluator(byte_store, rows=10**6)(Model(), None)
    exact = evaluator(byte_store, rows=int(byte_store.domains().num_heldout[0]))
    assert many.losses[0] == exact(Model(), None).losses[0]


def test_bits_per_byte():
    assert Group(8 * math.log(2), 2, 4).bits_per_byte == pytest.approx(2)
    assert math.isnan(Group(1.0, 2, 0).bits_per_byte)
