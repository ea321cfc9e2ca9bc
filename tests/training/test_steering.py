"""A run with several targets: what it steers by, and what it is evaluated on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import log_of, mesh_of, parts_of, small_config, train_run
from test_evaluate import Model, sums

from dga_jax.data.domains import Targets, shared_out
from dga_jax.data.store import PAD, Store
from dga_jax.errors import UserError
from dga_jax.prepare.assemble import prepare_store
from dga_jax.prepare.corpus import Corpus
from dga_jax.prepare.sources import expand
from dga_jax.report import write_report
from dga_jax.tokenizer import BytesTokenizer
from dga_jax.training.evaluate import Evaluator
from dga_jax.training.steps import target_scales

LEGO = Targets(("easy", "hard"), np.array([0, 3, 8]), np.array([0, 1, 2]))


def store_of(path, *targets):
    generic, target = (
        Corpus(tuple(expand(patterns)))
        for patterns in (["lego:k=3/documents=60"], targets)
    )
    prepare_store(
        generic=generic,
        target=target,
        tokenizer=BytesTokenizer(),
        seq_len=24,
        output=path,
    )
    return Store.open(path)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """One with two targets, and one with the second of them alone."""
    folder = tmp_path_factory.mktemp("stores")
    easy = "easy=lego:k=3/skills=1/seed=1/documents=40"
    hard = "hard=lego:k=3/skills=3/seed=1/documents=25"
    return store_of(folder / "both", easy, hard), store_of(folder / "hard", hard)


def steered(store, directory, **fields):
    """Alignments and weights of a run, by step and name, and its last line."""
    config = small_config(store, train__steps=7, checkpoint__every=0, **fields)
    train_run(config, directory)
    lines = log_of(directory)
    kept = ("mixture/alignment/", "mixture/weight/")
    return [
        {key: value for key, value in line.items() if key.startswith(kept)}
        for line in lines
    ], lines[-1]


def test_all_the_weight_on_one_is_a_run_towards_it_alone(stores, tmp_path):
    both, alone = stores
    fields = {"mixer__target_rows": 4}
    one, line = steered(both, tmp_path / "a", mixer__targets="hard=1", **fields)
    other, _ = steered(alone, tmp_path / "b", **fields)
    even, _ = steered(both, tmp_path / "c", **fields)
    assert one == other
    assert one != even
    assert {"eval/target/easy/loss", "eval/target/hard/bits_per_byte"} <= line.keys()
    write_report(tmp_path / "a")


def test_each_target_is_evaluated_and_all_of_them(stores):
    both, _ = stores
    found = Evaluator(both, mesh_of(1, 1, 1), rows=2, target_rows=3, batch_size=8)(
        Model(), None
    ).metrics
    bounds, losses = both.targets.eval_offsets, []
    for name, low, high in zip(both.targets.names, bounds, bounds[1:], strict=False):
        ids = low + np.arange(3) * (high - low) // 3
        nats, tokens, _ = sums(both.read("target_eval", ids))
        losses.append(nats / tokens)
        assert found[f"eval/target/{name}/loss"] == pytest.approx(losses[-1])
    held = np.diff(bounds)
    mean = (held @ losses) / held.sum()
    assert found["eval/target/loss"] == pytest.approx(mean)


def test_the_mean_of_a_batch_is_the_weighted_mean_of_the_targets():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 9, (7, 5)).astype(np.int32)
    rows[2, 3:] = PAD
    rows[6] = PAD  # what fills a mesh up
    owners, weights = np.array([0, 0, 0, 1, 1, 2, 0]), np.array([0.5, 0.2, 0.3])
    nll = rng.random(7) * (rows[:, 1:] >= 0).sum(axis=1)
    expected = 0.0
    for target, weight in enumerate(weights):
        here = owners == target
        expected += weight * nll[here].sum() / (rows[here, 1:] >= 0).sum()
    assert np.mean(nll * target_scales(rows, owners, weights)) == pytest.approx(
        expected
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(6, 80))
def test_rows_are_shared_out_by_the_weights(values, total):
    weights = np.array(values) + (max(values) < 1e-3)
    weights /= weights.sum()
    counts = shared_out(total, weights)
    assert counts.sum() == total
    np.testing.assert_array_equal(counts > 0, weights > 0)
    # A row more than its share has only who would have none, and who pays for those.
    assert (counts <= np.maximum(weights * total + 1, 1)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hrad=1", "the store has no target 'hrad'; it has easy, hard"),
        ("hard=.5,hard=.5", "target 'hard' comes twice"),
        ("hard=.5", "the weights sum to 0.5; let them sum to 1"),
        ("hard", "'hard' is not NAME=WEIGHT"),
        ("hard=-1,easy=2", "'hard=-1' is not NAME=WEIGHT with a weight in"),
        ("hard=nan", "'hard=nan' is not NAME=WEIGHT"),
        ("hard=1e308,easy=1e308", r"'hard=1e308' is not NAME=WEIGHT with a weight in"),
    ],
)
def test_weights_that_cannot_be(text, message):
    with pytest.raises(UserError, match=message) as caught:
        LEGO.weights(text)
    assert f"config.mixer.targets={text}: " in str(caught.value)


def test_weights_by_name():
    np.testing.assert_array_equal(LEGO.weights("hard=.75,easy=.25"), [0.25, 0.75])
    np.testing.assert_array_equal(LEGO.weights("hard=1"), [0, 1])
    assert LEGO.weights("") is None


def test_what_a_store_or_a_batch_is_too_small_for(stores):
    both, alone = stores
    config = small_config(alone, mixer__targets="hard=1")
    with pytest.raises(UserError, match="the store has one target; leave the field"):
        parts_of(config)
    config = small_config(both, mixer__targets="hard=.5,easy=.5", mixer__target_rows=1)
    with pytest.raises(UserError, match="weighs 2 targets, and each needs a row"):
        parts_of(config)
