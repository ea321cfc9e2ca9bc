"""Rows that are not full: weights are shares of tokens, errors know who weighs what."""

import tarfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from distributions import dense
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import DECAYING, parts_of, small_config

from dga_jax.data.domains import ClusterNames, Domains, coarsened
from dga_jax.data.store import PAD, Store
from dga_jax.mixing.alignment import alignment_step
from dga_jax.prepare.store_writer import StoreWriter
from dga_jax.tokenizer import BytesTokenizer
from dga_jax.training.mixture import Mixture
from dga_jax.training.probe import Updates
from dga_jax.training.setup import open_run
from dga_jax.training.steps import weighted_rows

BEFORE = Path(__file__).parents[1] / "before"
SEQ_LEN = 32
EMPTY, THREE_ROWS, ONE_ROW = 3, 6, 7
WEIGHTS = "0.0=.3,0.1=.25,0.2=.2,1.0=.15,1.1=.05,1.2=1e-9,1.3=.05"


def lengths():
    """Tokens that the rows of each of 2 x 4 clusters predict."""
    rng = np.random.default_rng(0)
    return [
        np.full(300, 32),
        rng.choice([32, 4], 300),
        np.full(300, 4),
        np.zeros(0, int),
        np.full(200, 16),
        rng.integers(1, 33, 200),
        np.array([32, 8, 20]),
        np.array([20]),
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("short") / "store"
    path.mkdir()
    rng = np.random.default_rng(1)
    writer = StoreWriter(path, BytesTokenizer(), SEQ_LEN)

    def write(split, tokens):
        rows = rng.integers(0, 256, (len(tokens), SEQ_LEN + 1), writer.dtype)
        rows[np.arange(SEQ_LEN + 1) > tokens[:, None]] = writer.pad
        writer.write_split(split, len(rows), [rows])

    write("train", np.concatenate(lengths()))
    for split in ("heldout", "target", "target_eval"):
        write(split, np.full(8, SEQ_LEN))
    offsets = np.cumsum([0, *map(len, lengths())])
    tokens = np.array([each.sum() for each in lengths()])
    finest = Domains(ClusterNames((2, 4)), offsets, np.arange(9), tokens)
    writer.write_level(coarsened(finest, ClusterNames((2,))))
    writer.write_level(finest)
    writer.add_clusters((2, 4), "random", "", [])
    writer.finish()
    return Store.open(path)


def mixture_of(store, **fields):
    return Mixture(small_config(store, data__level=1, **fields), store)


def tokens_of(store, ids):
    """Tokens that rows [...] predict, and the domains that they are of."""
    rows = store.read("train", ids.ravel()).reshape(*ids.shape, -1)
    domains = np.searchsorted(store.domains(1).offsets, ids, side="right") - 1
    return np.sum(rows[..., 1:] != PAD, axis=-1), domains


def assert_is(ratio_of_sums, numerators, denominators):
    """To four standard errors of Σ numerators / Σ denominators."""
    found = numerators.sum() / denominators.sum()
    residuals = numerators - found * denominators
    error = np.sqrt(np.sum(residuals**2)) / denominators.sum()
    assert abs(found - ratio_of_sums) <= 4 * error + 1e-6


@pytest.mark.parametrize(
    "fields",
    [
        {"mixer__weights": WEIGHTS},
        {"mixer__basis": "level0", "mixer__weights": "0=.8,1=.2"},
        {"mixer__weights": "natural"},
    ],
    ids=["direct", "basis", "natural"],
)
def test_weights_are_the_shares_of_the_tokens_drawn(fields, store):
    mixture = mixture_of(store, **fields)
    state = mixture.init()
    cumulative, cursors = mixture.cumulative(state), np.zeros(8, np.int64)
    draws = []
    for step in range(100):
        draw = mixture.sampler.draw(step, cumulative, cursors, 64)
        mixture.sampler.advance(cursors, draw.domains)
        draws.append(draw.rows)
    tokens, domains = tokens_of(store, np.concatenate(draws))
    for i, weight in enumerate(mixture.domain_weights(state)):
        assert_is(weight, tokens * (domains == i), tokens)
        assert (cumulative.weights[i] == 0) == (weight == 0)
    assert EMPTY not in domains


def test_by_natural_weights_all_rows_are_drawn_equally_often(store):
    mixture = mixture_of(store, mixer__weights="natural")
    shares = mixture.cumulative(mixture.init()).weights
    rows = mixture.domains.num_rows
    np.testing.assert_allclose(shares / shares.sum(), rows / rows.sum(), rtol=1e-6)


def test_a_domain_whose_rows_predict_nothing_can_be_drawn():
    domains = Domains("ab", np.array([0, 1, 3]), np.zeros(3, int), np.array([0, 9]))
    assert domains.tokens_per_row.tolist() == [1.0, 4.5]


@pytest.mark.parametrize("level", [-1, 0])
@pytest.mark.parametrize("limit", [1, 100, 1000, 3000, 10**30])
def test_a_limit_of_tokens_is_of_tokens(limit, level, store):
    """To a row, as far as there are as many; at least one row."""
    mixture = mixture_of(store, data__tokens_per_domain=limit, data__tokens_level=level)
    limited = store.domains(1 if level < 0 else level)
    rows = mixture.sampler.sizes.reshape(len(limited), -1).sum(axis=1)
    mean = limited.tokens_per_row
    expected = np.minimum(float(limit), limited.tokens)
    assert (rows <= limited.num_rows).all()
    assert ((rows * mean > expected - mean) | (rows == limited.num_rows)).all()
    assert ((rows * mean < expected + 1e-6) | (rows == 1)).all()


def test_probes_of_a_basis_are_of_tokens(store):
    """Their loss is Σ_i P_ji ℓ_i, ℓ_i nats per token of domain i."""
    mixture = mixture_of(store, mixer__basis="level0", mixer__probe_rows=8000)
    tokens, domains = tokens_of(store, mixture.probes(3).rows)
    losses = np.array([1.0, 2.0, 3.0, 0.0, -5.0, 4.0, 3.0, 1.0])
    for j, distribution in enumerate(dense(mixture.basis)):
        nats = losses[domains[j]] * tokens[j]
        assert_is(distribution @ losses, nats, tokens[j])


def spread_and_errors(store, mixture, draws):
    """[m] each: the spread of alignments over many draws, and what errors say.

    The derivative of a row's nats depends on its domain, its length and chance.
    """
    ids = np.stack([mixture.probes(step).rows for step in range(draws)])
    steps, m, b = ids.shape
    ids = ids.reshape(-1, b)
    rows = store.read("train", ids.ravel()).reshape(*ids.shape, -1)
    batch = weighted_rows(rows)
    _, domains = tokens_of(store, ids)
    tokens, noise = batch["tokens"], np.random.default_rng(2).normal(size=10_000)
    batch["nats"] = tokens * (domains % 3 - (tokens < 9) + noise[ids])
    result = alignment_step(
        lambda scale, batch: scale * batch["nats"] * batch["scale"],
        jnp.ones(()),
        jnp.ones(()),
        batch,
        row_weights=tokens,
        row_ids=ids,
    )
    values = np.asarray(result.alignments).reshape(steps, m)
    errors = np.asarray(result.standard_errors).reshape(steps, m)
    return values.std(axis=0, ddof=1), np.sqrt(np.mean(errors**2, axis=0))


@pytest.mark.parametrize("basis", ["", "level0"])
def test_errors_are_the_spread_of_probes(basis, store):
    """But for domains of few rows, whose every draw has the same."""
    mixture = mixture_of(store, mixer__basis=basis, mixer__probe_rows=8)
    spread, errors = spread_and_errors(store, mixture, 600)
    if not basis:
        assert np.isnan(errors[-1])  # the domain of one row
        spread, errors = spread[:-2], errors[:-2]
    assert len(errors) == (2 if basis else 5)
    np.testing.assert_allclose(errors, spread, rtol=0.2)


def test_errors_of_a_run_are_the_spread_of_its_alignments(store, tmp_path):
    """Through the model; all of the target is read, so that its gradient is fixed."""
    config = small_config(
        store, data__level=1, mixer__probe_rows=8, mixer__target_rows=8
    )
    config.model.update(num_layers=1, d_model=8, num_heads=2, d_ff=16)
    run = open_run(parts_of(config), tmp_path)
    run.checkpoints.close()
    updates = Updates(run, run.steps)
    measured = [updates.measure(run.snapshot.train, step) for step in range(1, 101)]
    updates.close()
    indices = measured[0].indices
    values = np.stack([each.signals.alignments for each in measured])
    errors = np.stack([each.signals.standard_errors for each in measured])
    many = np.isin(indices, [0, 1, 2, 4, 5])
    reported = np.sqrt(np.mean(errors[:, many] ** 2, axis=0))
    ratios = reported / values[:, many].std(axis=0, ddof=1)
    # A spread over 100 draws is itself known to 7%.
    assert 0.8 < np.sqrt(np.mean(ratios**2)) < 1.2
    assert ((ratios > 0.7) & (ratios < 1.4)).all()
    one = indices.tolist().index(ONE_ROW)
    assert np.isnan(errors[:, one]).all()
    assert (errors[:, indices == THREE_ROWS] > 0).all()
    assert np.isfinite(values).all()
    # An error that does not exist is no reason to skip an update.
    moved = run.mixture.update(run.snapshot.mixture, 3, indices, values[0])
    assert run.mixture.skipped_updates(moved) == 0


def test_a_run_that_drew_by_rows_goes_on_by_tokens(tmp_path, monkeypatch, capsys):
    for name in ("store", "run"):
        with tarfile.open(BEFORE / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    config = small_config(Store.open("store"), **DECAYING)
    config.model.update(num_layers=1, d_model=8, num_heads=2, d_ff=16)
    config.model.attention, config.train.loss_chunk, config.mesh.fsdp = "xla", 128, 1
    said = []
    for _ in range(2):
        run = open_run(parts_of(config), Path("run"))
        assert run.step == 7
        run.checkpoints.close()
        said.append(capsys.readouterr().out)
    assert said[0].count("\n") == 1
    assert "shares of the rows; from here on they are shares of the tokens" in said[0]
    assert said[1] == ""


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any),
    st.integers(0, 2**32 - 1),
)
def test_weighted_rows_average_to_nats_per_token(counts, seed):
    """Also with rows that predict nothing, which a mesh brings in."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 9, (len(counts), 7))
    nll = np.zeros(len(counts))
    for i, count in enumerate(counts):
        rows[i, 1 + count :] = PAD
        nll[i] = rng.exponential(size=count).sum()
    batch = weighted_rows(np.stack([rows, rows]))
    assert batch["scale"].shape == (2, len(counts))
    np.testing.assert_allclose(
        np.mean(nll * batch["scale"], axis=1), nll.sum() / sum(counts), rtol=1e-5
    )


def test_weighted_rows_of_separate_batches_are_separate():
    rows = np.zeros((2, 3, 5), np.int32)
    rows[1, 1:, 1:] = PAD
    scale = weighted_rows(rows)["scale"]
    np.testing.assert_allclose(scale[0], 3 / 12)
    np.testing.assert_allclose(scale[1], 3 / 4)
