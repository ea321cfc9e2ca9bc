"""Train step and alignment step against direct formulas, on real text."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from documents import alone
from flax import nnx
from runs import mesh_of
from small import ADAM, OPTIONS, TINY

from dga_jax import sharding
from dga_jax.benchmark.program import arrays
from dga_jax.data.store import PAD
from dga_jax.mixing.alignment import tree_dot
from dga_jax.training import train_state
from dga_jax.training.optimizer import make_optimizer
from dga_jax.training.steps import make_steps, weighted_rows

MODEL = dataclasses.replace(TINY, vocab_size=257, d_model=32, d_ff=64)
Z_LOSS = 0.01


def steps_of(mesh=(1, 1, 1), model=MODEL, **options):
    return make_steps(
        model, ADAM, dataclasses.replace(OPTIONS, **options), mesh_of(*mesh)
    )


def state_on(mesh=(1, 1, 1)):
    return train_state.create(MODEL, make_optimizer(ADAM), mesh_of(*mesh), seed=1)


def direct(params, rows, z_loss=0.0):
    """Loss and gradient of all rows at once: (objective, nats per token).

    Filled up with rows of padding, of which one program is needed and not many.
    """
    count = 8 if len(rows) <= 8 else -(-len(rows) // 64) * 64
    filled = np.pad(rows, ((0, count - len(rows)), (0, 0)), constant_values=PAD)
    return of_filled(params, filled, z_loss)


@jax.jit
@functools.partial(jax.value_and_grad, has_aux=True)
def of_filled(params, rows, z_loss):
    model = nnx.merge(train_state.graph(MODEL), params)
    logits = model(jnp.maximum(rows[:, :-1], 0))
    targets = rows[:, 1:]
    real = targets != PAD
    log_z = jax.nn.logsumexp(logits, axis=-1)
    index = jnp.maximum(targets, 0)[..., None]
    nll = log_z - jnp.take_along_axis(logits, index, axis=-1)[..., 0]
    mean = functools.partial(jnp.average, weights=real)
    return mean(nll) + z_loss * mean(log_z**2), mean(nll)


@pytest.fixture(scope="module")
def padded(byte_store):
    """Eight rows, of very different lengths; one predicts nothing."""
    rows = byte_store.read("train", np.arange(8) * 500)
    for row, length in zip(rows, [33, 33, 20, 2, 1, 33, 7, 12], strict=True):
        row[length:] = PAD
    return rows


def assert_close(tree, expected, tolerance):
    """Entries to `tolerance` of the largest of each leaf."""
    for found, want in zip(
        jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True
    ):
        scale = float(jnp.abs(want).max())
        np.testing.assert_allclose(found, want, atol=tolerance * scale)


CAREFUL = {"skip_nonfinite": True, "z_loss": Z_LOSS}
ON_A_MESH = pytest.param(
    CAREFUL | {"microbatches": 2}, (2, 2, 1), marks=pytest.mark.slow
)
IN_PARTS = CAREFUL | {"microbatches": 4}, (1, 1, 1)


@pytest.mark.parametrize(
    ("options", "mesh"), [({}, (1, 1, 1)), IN_PARTS, ON_A_MESH], ids=str
)
def test_a_train_step(options, mesh, padded):
    """Tokens weigh the same, in whatever row, microbatch or part of the mesh."""
    state, z_loss = state_on(mesh), options.get("z_loss", 0.0)
    params = jax.tree.map(np.array, state.params)
    rows = sharding.place(padded, sharding.batch_sharding(mesh_of(*mesh)))
    new, metrics = steps_of(mesh, **options).train(state, rows)
    (_, loss), gradient = direct(params, padded, z_loss)
    assert metrics.tokens == 32 + 32 + 19 + 1 + 0 + 32 + 6 + 11
    assert float(metrics.loss) == pytest.approx(float(loss), rel=1e-5)
    norm = float(jnp.sqrt(tree_dot(gradient, gradient)))
    assert float(metrics.gradient_norm) == pytest.approx(norm, rel=1e-4)
    assert float(metrics.learning_rate) == pytest.approx(0.01)
    moments = jax.tree.map(lambda m: m / (1 - ADAM.b1), new.opt_state["adam"].mu)
    assert_close(moments, gradient, 1e-4)
    moved = jax.tree.map(
        lambda p, g: p - 0.01 * g / (jnp.abs(g) + ADAM.eps), params, gradient
    )
    assert_close(new.params, moved, 1e-4)
    assert new.step == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize(("options", "mesh"), [IN_PARTS, ON_A_MESH], ids=str)
def test_a_step_that_is_not_finite_is_skipped(options, mesh, padded):
    """Bit for bit as if it had not been; the next one is the one it would have been."""
    train = steps_of(mesh, **options).train
    rows = sharding.place(padded, sharding.batch_sharding(mesh_of(*mesh)))
    state, _ = train(state_on(mesh), rows)
    kernel = state.params["final_norm"]["scale"]
    state.params["final_norm"]["scale"] = kernel.at[0].set(jnp.inf)
    before = jax.tree.map(np.array, state)
    state, metrics = train(state, rows)
    assert not np.isfinite(metrics.loss)
    assert state.step == 2
    jax.tree.map(
        np.testing.assert_array_equal,
        (state.params, state.opt_state),
        (before.params, before.opt_state),
    )
    state.params["final_norm"]["scale"] = kernel
    skipped, metrics = train(state, rows)
    again, _ = train(state_on(mesh), rows)
    again, expected = train(again, rows)
    assert metrics.loss == expected.loss
    jax.tree.map(
        np.testing.assert_array_equal,
        (skipped.params, skipped.opt_state),
        (again.params, again.opt_state),
    )


def test_evaluation_is_by_row(padded):
    params = state_on().params
    sums = steps_of().evaluate(params, padded)
    for i in (0, 2, 3):
        (_, loss), _ = direct(params, padded[i : i + 1])
        assert float(sums.nll[i] / sums.count[i]) == pytest.approx(
            float(loss), rel=1e-4
        )


@pytest.mark.parametrize("chunk", [8, 32])
def test_logits_of_a_batch_are_never_held(chunk, byte_store):
    """Of V = 257, the compiled step knows no array of B x L; unless asked for."""
    rows = byte_store.read("train", np.arange(8))
    compiled = steps_of(loss_chunk=chunk).train.lower(state_on(), rows).compile()
    floats = [x for x in arrays(compiled.as_text()) if x.kind in ("f32", "bf16")]
    largest = max(np.prod(x.shape) for x in floats if 257 in x.shape)
    assert largest == 8 * chunk * 257


@pytest.fixture(scope="module")
def probed(byte_store):
    """A state after a few steps, a target batch, probe batches; and directly:
    gradients of the target and of each domain."""
    state, step = state_on(), steps_of().train
    for i in range(3):
        state, _ = step(state, byte_store.read("train", np.arange(8) + 900 * i))
    target = byte_store.read("target", np.arange(4))
    target[1, 9:] = PAD
    offsets = byte_store.domains().offsets[:-1]
    rows = byte_store.read("train", (offsets[:, None] + np.arange(3)).ravel())
    rows = rows.reshape(8, 3, -1)
    rows[:, 2, 20:] = PAD
    gradient = direct(state.params, target)[1]
    gradients = [direct(state.params, part)[1] for part in rows]
    losses = [float(direct(state.params, part)[0][1]) for part in rows]
    return state, target, rows, gradient, gradients, losses


def dot(a, b):
    """⟨a, b⟩ in float64."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(np.vdot(np.float64(x), np.float64(y)) for x, y in pairs)


def aligned(probed, **options):
    state, target, rows, *_ = probed
    batches = (weighted_rows(target), weighted_rows(rows))
    return steps_of(**options).align(state, *batches)


@pytest.fixture(scope="module")
def plain(probed):
    return aligned(probed)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"estimator": "reverse"},
        {"chunk": 3, "target_chunk": 2, "normalise": True},
    ],
    ids=str,
)
def test_alignments(options, probed, plain):
    """To 1e-4 of ‖∇ℓ_i‖‖∇ℓ_target‖ of the products of gradients.

    Over ‖∇ℓ_target‖ where they are normalised, as are their errors.
    """
    *_, gradient, gradients, losses = probed
    result, norm = aligned(probed, **options)
    target_norm = dot(gradient, gradient) ** 0.5
    assert float(norm) == pytest.approx(target_norm, rel=1e-4)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-5)
    scale = float(norm) if options.get("normalise") else 1.0
    for found, one in zip(result.alignments, gradients, strict=True):
        bound = 1e-4 * dot(one, one) ** 0.5 * target_norm
        assert abs(float(found) * scale - dot(one, gradient)) <= bound
    errors = plain[0].standard_errors
    assert (np.asarray(errors) > 0).all()
    np.testing.assert_allclose(result.standard_errors * scale, errors, rtol=1e-3)


def test_preconditioned(probed):
    """⟨∇ℓ_i, P⁻¹g⟩ / √⟨g, P⁻¹g⟩, with P made of Adam's moments after three steps."""
    state, _, _, gradient, gradients, _ = probed
    second = state.opt_state["adam"].nu
    scaled = jax.tree.map(
        lambda g, v: g / (jnp.sqrt(v / (1 - ADAM.b2**3)) + ADAM.eps), gradient, second
    )
    expected_norm = dot(gradient, scaled) ** 0.5
    result, norm = aligned(probed, precondition=True, normalise=True)
    assert float(norm) == pytest.approx(expected_norm, rel=1e-4)
    scale = dot(scaled, scaled) ** 0.5 / expected_norm
    for found, one in zip(result.alignments, gradients, strict=True):
        expected = dot(one, scaled) / expected_norm
        assert abs(float(found) - expected) <= 1e-4 * dot(one, one) ** 0.5 * scale


MASKED = dataclasses.replace(MODEL, document_end=256)


@pytest.fixture(scope="module")
def documents(padded):
    """Eight rows full of short documents, some of them padded."""
    ends = np.random.default_rng(3).random(padded.shape) < 0.15
    return np.where(ends & (padded != PAD), 256, padded)


def test_alignments_of_documents_apart(probed, documents):
    """Under the mask; expected of documents in rows of their own, without it."""
    state, rows = probed[0], documents.reshape(4, 2, -1)
    gradient = direct(state.params, alone(documents, 256))[1]
    batches = (weighted_rows(documents), weighted_rows(rows[[0, 1, 3]]))
    steps = steps_of(model=MASKED, chunk=2, target_chunk=4)
    result, norm = steps.align(state, *batches)
    target_norm = dot(gradient, gradient) ** 0.5
    assert float(norm) == pytest.approx(target_norm, rel=1e-5)
    for i, part in enumerate(rows[[0, 1, 3]]):
        (_, loss), one = direct(state.params, alone(part, 256))
        assert float(result.losses[i]) == pytest.approx(float(loss), rel=1e-5)
        bound = 1e-5 * dot(one, one) ** 0.5 * target_norm
        assert abs(float(result.alignments[i]) - dot(one, gradient)) <= bound


def test_documents_apart_on_a_mesh(documents):
    """In microbatches."""
    mesh, microbatches = (2, 2, 2), 2
    state, where = state_on(mesh), sharding.batch_sharding(mesh_of(*mesh))
    rows = sharding.place(documents, where)
    (_, loss), gradient = direct(jax.device_get(state.params), alone(documents, 256))
    steps = steps_of(mesh, model=MASKED, microbatches=microbatches)
    sums = steps.evaluate(state.params, rows)
    total = float(jnp.sum(sums.nll) / jnp.sum(sums.count))
    assert total == pytest.approx(float(loss), rel=1e-5)
    new, metrics = steps.train(state, rows)
    assert float(metrics.loss) == pytest.approx(float(loss), rel=1e-5)
    moments = jax.tree.map(lambda m: m / (1 - ADAM.b1), new.opt_state["adam"].mu)
    assert_close(moments, gradient, 1e-4)


def test_rows_without_tokens_change_no_target(probed, plain):
    """They fill a mesh up, where it does not divide the target's rows."""
    state, target, rows, *_ = probed
    filled = np.pad(target, ((0, 4), (0, 0)), constant_values=PAD)
    plain, norm = plain
    found, same = aligned((state, filled, rows))
    assert float(norm) == pytest.approx(float(same), rel=1e-5)
    np.testing.assert_allclose(found.alignments, plain.alignments, rtol=1e-3, atol=1e-5)
