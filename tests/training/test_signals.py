"""What an update measures of the model, against gradients taken one by one."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import log_of, open_run, parts_of, small_config, train_run
from test_every_mixer import assert_goes_on, tiny
from test_steering import store_of

from dga_jax import sharding
from dga_jax.mixing.alignment import gradient_moments, tree_dot
from dga_jax.training.mixture import Mixture
from dga_jax.training.probe import Updates
from dga_jax.training.steps import make_alignment_losses

ROWS = 2  # of each of eight domains


@contextlib.contextmanager
def opened(store, folder, **fields):
    """A fresh run, its updates, its state."""
    folder.mkdir()
    run = open_run(parts_of(tiny(store, **fields)), folder)
    run.checkpoints.close()
    with contextlib.closing(Updates(run, run.steps)) as updates:
        yield run, updates, run.snapshot.train


def row_gradients(run):
    """A function of a batch: the gradient of each row's loss, by rows in turn."""
    from dga_jax.training import config as configs

    model = configs.model_config(run.config)
    options = configs.step_options(run.config, run.mesh, 8)
    loss, _ = make_alignment_losses(model, options, run.mesh, (8, ROWS))
    params = run.snapshot.train.params
    compiled = jax.jit(jax.jacrev(loss))
    return lambda batch: compiled(params, batch)


def flat(tree, axes):
    """Leaves [axes..., -1] one after the other."""
    leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(tree)]
    return np.concatenate([x.reshape(*x.shape[:axes], -1) for x in leaves], axis=axes)


@pytest.fixture(scope="module")
def gradients(byte_store, tmp_path_factory):
    """Those of the probe rows [8, ROWS, ...] after step 2."""
    folder = tmp_path_factory.mktemp("gradients")
    with opened(byte_store, folder / "rows") as (run, updates, _):
        probes, of_rows = updates._read(2).probes, row_gradients(run)
        found = [
            flat(of_rows({k: x[i] for k, x in probes.items()}), 1) for i in range(8)
        ]
    return np.stack(found)


def test_norms_and_variances(byte_store, gradients, tmp_path):
    fields = {"mixer__name": "pike"}
    with opened(byte_store, tmp_path / "run", **fields) as (_, updates, state):
        found = updates.measure(state, 2).signals
    means = gradients.mean(axis=1)
    norms = np.linalg.norm(means, axis=1)
    np.testing.assert_allclose(found.gradient_norms, norms, rtol=1e-3)
    rest = ((gradients - means[:, None]) ** 2).sum(axis=(1, 2)) / (ROWS - 1)
    np.testing.assert_allclose(found.gradient_variances, rest, rtol=5e-3)
    assert found.alignments is None


def test_alignments_with_all_domains(byte_store, gradients, tmp_path):
    fields = {"mixer__name": "doge_universal"}
    with opened(byte_store, tmp_path / "run", **fields) as (_, updates, state):
        found = updates.measure(state, 2).signals
    means = gradients.mean(axis=1)
    expected = means @ means.sum(axis=0)
    np.testing.assert_allclose(found.generic_alignments, expected, rtol=2e-3)
    rate = found.learning_rate
    assert rate.shape == ()
    assert 0 < rate <= 1


def test_moments_of_quadratics():
    """One row has no variance that could be known."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 5, 4)).astype(np.float32)
    theta = jnp.asarray(rng.normal(size=4), jnp.float32)

    def loss(params, rows):
        return 0.5 * jnp.sum((params - rows) ** 2, axis=-1)

    norms, variances = gradient_moments(loss, theta, centres)
    each = np.asarray(theta) - centres
    np.testing.assert_allclose(
        norms, np.linalg.norm(each.mean(axis=1), axis=1), rtol=1e-5
    )
    np.testing.assert_allclose(
        variances, each.var(axis=1, ddof=1).sum(axis=1), rtol=1e-4
    )
    assert np.isnan(gradient_moments(loss, theta, centres[:, :1])[1]).all()


@pytest.mark.parametrize("tied", [True, False])
def test_alignments_of_the_head_alone(tied, byte_store, tmp_path):
    fields = {"mixer__head": True, "mixer__normalise": False}
    config = tiny(byte_store, **fields)
    config.model.tied_embeddings = tied
    run = open_run(parts_of(config), tmp_path)
    run.checkpoints.close()
    with contextlib.closing(Updates(run, run.steps)) as updates:
        found = updates.measure(run.snapshot.train, 2)
        rows = updates._read(2)
    head = "embed" if tied else "unembed"
    of_rows = row_gradients(run)
    target = jax.tree.map(lambda x: x.mean(axis=0), of_rows(rows.target))
    norm = np.sqrt(float(tree_dot(target[head], target[head])))
    assert found.target_norm == pytest.approx(norm, rel=1e-3)
    for i in (0, 5):
        batch = {k: x[i] for k, x in rows.probes.items()}
        mean = jax.tree.map(lambda x: x.mean(axis=0), of_rows(batch))
        expected = float(tree_dot(mean[head], target[head]))
        assert found.signals.alignments[i] == pytest.approx(expected, rel=1e-2)


# --- weights of the loss


def test_a_row_counts_as_much_as_its_weight(byte_store, tmp_path):
    """Of the gradient; the loss that is logged is that of the rows as drawn."""
    for parts in (1, 2):
        folder = tmp_path / str(parts)
        with opened(byte_store, folder, train__microbatches=parts) as (run, *_):
            rows = byte_store.read("train", np.arange(8))
            weights = np.array([0, 2, 0, 1, 0.5, 0, 3, 0], np.float32)
            where = sharding.batch_sharding(run.mesh)
            placed = sharding.place(rows, where)
            fresh = jax.tree.map(jnp.copy, run.snapshot.train)
            plain, told = run.steps.train(fresh, placed)
            fresh = jax.tree.map(jnp.copy, run.snapshot.train)
            _, same = run.steps.train(fresh, placed, jnp.ones(8))
            assert float(same.gradient_norm) == pytest.approx(
                float(told.gradient_norm), rel=1e-5
            )
            fresh = jax.tree.map(jnp.copy, run.snapshot.train)
            _, found = run.steps.train(fresh, placed, jnp.asarray(weights))
        tokens = (rows[:, 1:] >= 0).sum(axis=1)
        batch = {"rows": rows, "scale": np.ones(8, np.float32)}
        each = flat(row_gradients(run)(batch), 1)
        expected = np.linalg.norm(weights @ each) / tokens.sum()
        assert float(found.gradient_norm) == pytest.approx(expected, rel=1e-3)
        assert float(found.loss) == pytest.approx(float(told.loss), rel=1e-6)
        np.testing.assert_array_equal(found.rows[1], tokens)
        assert float(found.rows[0].sum()) == pytest.approx(
            float(found.loss) * tokens.sum(), rel=1e-5
        )
        assert plain.step == 1


def test_rows_are_drawn_by_the_first_weights(byte_store, tmp_path):
    """And scaled by what the weights have become: the mixture is the same."""
    fields = {"mixer__apply": "loss", "mixer__weights": "natural"}
    mixture = Mixture(small_config(byte_store, **fields), byte_store)
    first, cursors = mixture.init(), np.zeros(8, np.int64)
    np.testing.assert_allclose(mixture.loss_factors(first, cursors), 1, rtol=1e-5)
    moved = mixture.update(first, 3, np.arange(8), np.arange(8) / 8)
    before, after = (mixture.cumulative(state).weights for state in (first, moved))
    np.testing.assert_array_equal(before, after)
    factors = mixture.loss_factors(moved, cursors)
    expected = mixture.domain_weights(moved) / mixture.domain_weights(first)
    np.testing.assert_allclose(factors, expected, rtol=1e-5)
    plain = Mixture(small_config(byte_store), byte_store)
    assert plain.loss_factors(plain.init(), cursors) is None
    still = small_config(byte_store, mixer__name="static", mixer__apply="loss")
    assert Mixture(still, byte_store).loss_factors(first, cursors) is None


@pytest.mark.slow
def test_scaled_losses_train_another_model(byte_store, tmp_path):
    """Same rows as under the first weights, other parameters after an update."""
    losses = {}
    for name, fields in {
        "static": {"mixer__name": "static"},
        "loss": {"mixer__apply": "loss", "mixer__eta": 500.0},
    }.items():
        assert train_run(tiny(byte_store, **fields), tmp_path / name)
        losses[name] = [line["train/loss"] for line in log_of(tmp_path / name)[1:]]
    assert losses["static"][:3] == losses["loss"][:3]
    assert losses["static"][3:] != losses["loss"][3:]


# --- several targets


@pytest.fixture(scope="module")
def two_targets(tmp_path_factory):
    easy = "easy=lego:k=3/skills=1/seed=1/documents=40"
    hard = "hard=lego:k=3/skills=3/seed=1/documents=25"
    return store_of(tmp_path_factory.mktemp("store") / "both", easy, hard)


def test_alignments_by_target(two_targets, tmp_path):
    """Each as if the target were the only one, by all of its rows."""
    rows = {"mixer__target_rows": 500}
    fields = rows | {"mixer__name": "grape"}
    with opened(two_targets, tmp_path / "grape", **fields) as (_, updates, state):
        found = updates.measure(state, 2).signals
    count = len(two_targets.domains())
    assert found.target_alignments.shape == (2, count)
    for i, name in enumerate(("easy", "hard")):
        fields = rows | {"mixer__targets": f"{name}=1"}
        with opened(two_targets, tmp_path / name, **fields) as (_, updates, state):
            alone = updates.measure(state, 2).signals
        # 500 rows are not the same number of times each of the target's.
        np.testing.assert_allclose(
            found.target_alignments[i], alone.alignments, rtol=0.1, atol=1e-2
        )
    assert found.target_losses.shape == (2,)
    assert (abs(found.target_losses - np.log(256)) < 1).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [{"mixer__name": "grape"}, {"mixer__targets": "easy=.7,hard=.3"}],
    ids=["moved", "given"],
)
def test_several_targets_killed_and_started_again(
    fields, two_targets, tmp_path, monkeypatch
):
    def config():
        return tiny(two_targets, **fields, mixer__target_rows=2)

    weights = assert_goes_on(config, tmp_path, monkeypatch)
    assert np.ptp(weights, axis=0).max() > 0


def test_alignments_by_target_are_logged(two_targets, tmp_path):
    """Where the mixer reads them, under the names of target and domain."""
    fields = {"mixer__name": "grape", "mixer__target_rows": 2, "train__steps": 2}
    assert train_run(tiny(two_targets, **fields), tmp_path / "grape")
    line = log_of(tmp_path / "grape")[-1]
    for target in ("easy", "hard"):
        assert line[f"mixture/target_loss/{target}"] > 0
        for domain in two_targets.domains().names:
            assert np.isfinite(line[f"mixture/target_alignment/{target}/{domain}"])
