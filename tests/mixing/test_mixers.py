"""The recipes as the loop calls them: fixed points, and the simplex come what may."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from dga_jax.mixing import mixers
from dga_jax.mixing.alignment import alignment_step, target_direction

DIMENSION = 3


def weights_of(state):
    return np.exp(np.asarray(state.log_weights, np.float64))


def same_bits(a, b):
    """Whether two states are equal to the last bit, -inf and all."""
    return jax.tree.all(jax.tree.map(lambda x, y: jnp.array_equal(x, y), a, b))


# --- fixed points


def quadratic_rows(curvature, params, centres):
    """½‖θ - c‖²_H for every row c, of parameters in two leaves."""
    theta = jnp.concatenate([params["a"], params["b"].ravel()])
    residuals = theta - centres
    return 0.5 * jnp.einsum("bi,ij,bj->b", residuals, curvature, residuals)


def projection(curvature, centres, target):
    """H²-norm projection of the target on the hull, by non-negative least squares."""
    heavy = 1e5  # of the equation Σ α = 1
    system = np.vstack([curvature @ centres.T, np.full(len(centres), heavy)])
    weights, _ = optimize.nnls(system, np.append(curvature @ target, heavy))
    return weights @ centres


def run_quadratics(curvature, centres, target, beta, updates=2000):
    """α's mixture of the centres after DGA; a few descent steps between updates."""
    rows = 2
    loss_fn = functools.partial(quadratic_rows, jnp.asarray(curvature, jnp.float32))
    probes = jnp.asarray(np.repeat(centres[:, None], rows, axis=1), jnp.float32)
    target_rows = jnp.asarray(np.repeat(target[None], rows, axis=0), jnp.float32)
    mixer = mixers.dga(eta=0.05 / beta, beta=beta)
    learning_rate = 1 / np.linalg.eigvalsh(curvature)[-1]

    @jax.jit
    def interval(params, state):
        def loss(params):
            return jnp.exp(state.log_weights) @ loss_fn(params, probes[:, 0])

        def descend(_, params):
            gradient = jax.grad(loss)(params)
            return jax.tree.map(lambda p, g: p - learning_rate * g, params, gradient)

        params = jax.lax.fori_loop(0, 5, descend, params)
        direction, _ = target_direction(loss_fn, params, target_rows)
        measured = alignment_step(loss_fn, params, direction, probes)
        return params, mixers.update(mixer, state, measured.alignments, step=0)

    params = {"a": jnp.zeros(1), "b": jnp.zeros((DIMENSION - 1, 1))}
    state = mixers.init(mixer, np.full(len(centres), 1 / len(centres)))
    for _ in range(updates):
        params, state = interval(params, state)
    return weights_of(state) @ centres


@pytest.mark.parametrize("beta", [1.0, 0.1])
@pytest.mark.parametrize("place", ["inside", "before a face", "beyond a corner"])
def test_dga_projects_the_target_on_the_hull(place, beta):
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(6, DIMENSION))
    root = rng.normal(size=(DIMENSION, DIMENSION))
    curvature = root @ root.T / DIMENSION + np.eye(DIMENSION)
    target = {
        "inside": centres.mean(axis=0),
        "before a face": centres[:3].mean(axis=0) * 2 - centres.mean(axis=0),
        "beyond a corner": centres[0] * 3 - centres.mean(axis=0) * 2,
    }[place]
    expected = projection(curvature, centres, target)
    mixture = run_quadratics(curvature, centres, target, beta)
    np.testing.assert_allclose(mixture, expected, atol=1e-3)
    # Not where the weights began, nor the Euclidean projection.
    if place == "before a face":
        euclidean = projection(np.eye(DIMENSION), centres, target)
        assert np.linalg.norm(euclidean - expected) > 1e-2


# --- the simplex, whatever the signals

SIZE = 5
FLOORS = (0.0, 0.02, 0.2)

# The step carries η and β of the example: one compilation serves all examples.
ANY_DGA = {
    floor: mixers.dga(
        eta=lambda step: jnp.ravel(step)[0],
        beta=lambda step: jnp.ravel(step)[-1],
        floor=floor,
    )
    for floor in FLOORS
}
SIGNALS = st.one_of(
    st.floats(-10, 10, width=32),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([3e38, -3e38, 1e-38, -1e-45, 0.0]),
)
BAD_SIGNALS = st.sampled_from([np.nan, np.inf, -np.inf])
ETAS = st.one_of(st.just(0.0), st.floats(0, 1e6, width=32), st.floats(0, 10, width=32))
BETAS = st.one_of(st.just(1.0), st.floats(np.float32(1e-7), 1, width=32))
MASKS = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE)


@st.composite
def updates(draw):
    """A signal, finite in most cases, who was probed, and η and β."""
    signal = draw(st.lists(SIGNALS, min_size=SIZE, max_size=SIZE))
    if draw(st.integers(0, 3)) == 0:
        signal[draw(st.integers(0, SIZE - 1))] = draw(BAD_SIGNALS)
    probed = draw(st.one_of(st.none(), MASKS.map(np.array)))
    step = np.array([draw(ETAS), draw(BETAS)], np.float32)
    return np.array(signal, np.float32), probed, step


@st.composite
def initial_weights(draw):
    logs = draw(st.lists(st.floats(-60, 0), min_size=SIZE, max_size=SIZE))
    dead = draw(MASKS)
    dead[draw(st.integers(0, SIZE - 1))] = False
    weights = np.where(dead, 0.0, np.exp(logs))
    return weights / weights.sum()


@given(initial_weights(), st.sampled_from(FLOORS), st.lists(updates(), max_size=6))
@settings(deadline=None, max_examples=200)
def test_weights_stay_on_the_simplex(weights, floor, sequence):
    mixer = ANY_DGA[floor]
    state = mixers.init(mixer, weights)
    alive = weights > 0
    skipped = 0
    for signal, probed, step in sequence:
        before = state
        state = mixers.update(mixer, state, signal, step=step, probed=probed)
        if np.isfinite(signal if probed is None else signal[probed]).all():
            if floor:
                assert (weights_of(state)[alive] >= floor - 1e-6).all()
        else:
            skipped += 1
            np.testing.assert_array_equal(state.log_weights, before.log_weights)
            assert same_bits(state.inner.inner, before.inner.inner)
        assert state.inner.skipped == skipped
        assert np.isfinite(state.log_weights)[alive].all()
        assert (weights_of(state)[~alive] == 0).all()
        assert abs(weights_of(state).sum() - 1) <= 1e-6
        assert abs(float(jnp.exp(state.log_weights).sum()) - 1) <= 1e-6


@given(
    initial_weights(),
    st.lists(st.floats(-5, 5, width=32), min_size=SIZE, max_size=SIZE),
    MASKS.map(np.array),
    st.floats(0, 2, width=32),
    BETAS,
)
@settings(deadline=None)
def test_an_update_is_the_papers(weights, signal, probed, eta, beta):
    """The equations of the method in float64, for the probed domains' own mass."""
    mixer, signal = ANY_DGA[0.0], np.array(signal, np.float32)
    state = mixers.update(
        mixer,
        mixers.init(mixer, weights),
        signal,
        step=np.array([eta, beta], np.float32),
        probed=probed,
    )
    raised = weights * np.exp(eta * signal.astype(np.float64))
    hat = weights.copy()
    if raised[probed].sum() > 0:
        hat[probed] = raised[probed] * weights[probed].sum() / raised[probed].sum()
    expected = (1 - beta) * weights + beta * hat
    np.testing.assert_allclose(weights_of(state), expected, rtol=1e-4)


def test_a_domain_pressed_down_for_long_recovers():
    mixer = mixers.dga(eta=1e6, beta=1.0)
    state = mixers.init(mixer, [0.5, 0.5])
    for signal in [[3e38, -3e38]] * 20 + [[-3e38, 3e38]] * 21:
        state = mixers.update(mixer, state, np.array(signal, np.float32), step=0)
    np.testing.assert_allclose(weights_of(state), [0.0, 1.0], atol=1e-6)


def test_many_updates_do_not_pile_up_rounding():
    mixer = mixers.dga(eta=0.1, beta=0.1)
    state = mixers.init(mixer, np.full(1000, 1e-3))
    signals = np.random.default_rng(0).normal(size=(300, 1000)).astype(np.float32)
    for step, signal in enumerate(signals):
        state = mixers.update(mixer, state, signal, step=step)
    assert abs(weights_of(state).sum() - 1) <= 1e-6
    assert weights_of(state).std() > 1e-5


# --- the calls


def test_static_weights_never_move():
    mixer = mixers.static()
    state = mixers.init(mixer, [0.1, 0.2, 0.7, 0.0])
    moved = mixers.update(mixer, state, np.arange(4, dtype=np.float32), step=3)
    assert not mixer.moves
    assert same_bits(moved, state)


def test_initial_weights_keep_rare_and_empty_domains():
    state = mixers.init(mixers.dga(eta=1.0, beta=0.1), [1e-9, 1 - 1e-9, 0.0])
    np.testing.assert_allclose(weights_of(state), [1e-9, 1.0, 0.0], rtol=1e-5)


def test_steps_do_not_compile_again():
    traced = []

    def eta(step):
        traced.append(step)
        return optax.linear_schedule(1.0, 0.0, 10)(step)

    mixer = mixers.dga(eta=eta, beta=1.0)
    state = mixers.init(mixer, [0.5, 0.5])
    signal = np.array([1.0, 0.0], np.float32)
    odds = 1.0
    for step in range(10):
        state = mixers.update(mixer, state, signal, step=step)
        odds *= np.exp(1 - step / 10)
    assert len(traced) == 2  # the first of them for the state
    new, old = weights_of(state)
    np.testing.assert_allclose(new / old, odds, rtol=1e-4)  # every step had its own η
    state = mixers.update(mixer, state, signal, step=jnp.int32(10))
    state = mixers.update(mixer, state, signal, step=jnp.int32(11))
    assert len(traced) == 3  # a strongly typed step is another type, not another step


@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_262144_domains(spread, share):
    size = 64**3
    rng = np.random.default_rng(0)
    weights = np.exp(spread * rng.normal(size=size))
    weights[::7] = 0
    weights /= weights.sum()
    alive = weights > 0
    floor = share / alive.sum()
    mixer = mixers.dga(eta=1.0, beta=0.1, floor=floor)
    state = mixers.init(mixer, weights)
    assert abs(weights_of(state).sum() - 1) <= 1e-6

    for step in range(5):
        signal = rng.normal(size=size).astype(np.float32)
        state = mixers.update(mixer, state, signal, step=step)
        assert abs(weights_of(state).sum() - 1) <= 1e-6
    assert (weights_of(state)[~alive] == 0).all()
    assert (weights_of(state)[alive] >= floor * (1 - 1e-4)).all()
    assert np.isfinite(state.log_weights)[alive].all()
