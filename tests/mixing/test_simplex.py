"""Laws of the transforms, against float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dga_jax.mixing import simplex

SIZE = 6
DEAD = 0.0


def apply(transform, log_weights, signal, **extra):
    """Log-weights after one update, not normalised."""
    state = transform.init(log_weights)
    delta, _ = transform.update(signal, state, log_weights, **extra)
    return optax.apply_updates(log_weights, delta)


def log_of(weights):
    return jnp.log(jnp.asarray(weights, jnp.float32))


def exp64(log_weights):
    return np.exp(np.asarray(log_weights, np.float64))


@st.composite
def weights_and(draw, elements, alive=1):
    """float32 weights on the simplex, some 0 or tiny, and as many of `elements`."""
    logs = draw(st.lists(st.floats(-60, 0), min_size=SIZE, max_size=SIZE))
    dead = draw(st.lists(st.booleans(), min_size=SIZE, max_size=SIZE))
    dead[:alive] = [False] * alive
    weights = np.where(dead, DEAD, np.exp(logs))
    values = draw(st.lists(elements, min_size=SIZE, max_size=SIZE))
    return (weights / weights.sum()).astype(np.float32), values


# --- exponentiated gradient


@given(weights_and(st.floats(-5, 5, width=32)), st.floats(0, 4))
@settings(deadline=None)
def test_exponentiated_gradient_is_its_formula(case, eta):
    weights, signal = case[0], np.asarray(case[1], np.float32)
    moved = apply(simplex.exponentiated_gradient(eta), log_of(weights), signal)
    expected = weights.astype(np.float64) * np.exp(eta * signal.astype(np.float64))
    expected /= expected.sum()
    np.testing.assert_allclose(exp64(moved), expected, rtol=3e-5)


@given(weights_and(st.integers(-8, 8), alive=2))
@settings(deadline=None)
def test_larger_signals_gain_on_smaller_ones(case):
    weights, signal = case
    moved = apply(
        simplex.exponentiated_gradient(0.5), log_of(weights), np.float32(signal)
    )
    gain = np.asarray(moved - log_of(weights), np.float64)
    for i, j in itertools.combinations(np.flatnonzero(weights), 2):
        difference = 0.5 * (signal[i] - signal[j])
        np.testing.assert_allclose(gain[i] - gain[j], difference, atol=3e-5)


@given(weights_and(st.integers(-8, 8)), st.integers(-1000, 1000))
@settings(deadline=None)
def test_a_constant_added_to_all_signals_changes_nothing(case, constant):
    weights, signal = case
    transform = simplex.exponentiated_gradient(1.0)
    moved = apply(transform, log_of(weights), np.float32(signal))
    shifted = apply(transform, log_of(weights), np.float32(signal) + constant)
    np.testing.assert_array_equal(moved, shifted)


@given(weights_and(st.tuples(st.floats(-5, 5, width=32), st.booleans())))
@settings(deadline=None)
def test_probed_domains_share_their_own_mass(case):
    weights, values = case
    signal = np.array([value for value, _ in values], np.float32)
    probed = np.array([flag for _, flag in values])
    moved = apply(
        simplex.exponentiated_gradient(1.0), log_of(weights), signal, probed=probed
    )
    np.testing.assert_array_equal(moved[~probed], log_of(weights)[~probed])
    old, new = exp64(log_of(weights))[probed], exp64(moved)[probed]
    np.testing.assert_allclose(new.sum(), old.sum(), rtol=3e-5)
    if old.sum() > 0:
        expected = old * np.exp(signal[probed].astype(np.float64))
        expected *= old.sum() / expected.sum()
        np.testing.assert_allclose(new, expected, rtol=6e-5)


def test_signals_that_are_not_probed_are_not_read():
    log_weights = log_of([0.2, 0.3, 0.5])
    probed = np.array([True, True, False])
    transform = simplex.exponentiated_gradient(1.0)
    expected = apply(
        transform, log_weights, np.array([1.0, 0.0, 0.0], np.float32), probed=probed
    )
    for junk in (np.nan, np.inf, 3e38):
        signal = np.array([1.0, 0.0, junk], np.float32)
        moved = apply(transform, log_weights, signal, probed=probed)
        np.testing.assert_array_equal(moved, expected)


@given(weights_and(st.floats(-5, 5, width=32)))
@settings(deadline=None)
def test_all_probed_is_as_none_said(case):
    weights, signal = case[0], np.asarray(case[1], np.float32)
    transform = simplex.exponentiated_gradient(1.0)
    everything = np.ones(len(weights), bool)
    np.testing.assert_array_equal(
        apply(transform, log_of(weights), signal, probed=everything),
        apply(transform, log_of(weights), signal),
    )


@pytest.mark.parametrize("eta", [0.0, 1e-6, 1.0, 1e6])
def test_huge_signals_leave_finite_log_weights(eta):
    log_weights = log_of([0.25, 0.25, 0.5, DEAD])
    signal = np.array([3e38, -3e38, 1e-38, 3e38], np.float32)
    moved = apply(simplex.exponentiated_gradient(eta), log_weights, signal)
    assert np.isfinite(moved[:3]).all()
    assert moved[3] == -jnp.inf
    if eta == 0:
        np.testing.assert_allclose(moved, log_weights, atol=1e-6)
    else:
        np.testing.assert_allclose(exp64(moved), [1, 0, 0, 0], atol=1e-6)


# --- EMA


@given(
    weights_and(st.floats(-60, 0)),
    st.one_of(st.just(1.0), st.floats(np.float32(1e-6), 1, width=32)),
)
@settings(deadline=None)
def test_ema_is_that_of_the_weights(case, beta):
    weights, logs = case
    alive = weights > 0
    new = np.where(alive, np.exp(logs), 0)
    new = (new / new.sum()).astype(np.float32)
    delta = jnp.where(alive, log_of(new) - log_of(weights), 0.0)
    moved = apply(simplex.log_space_ema(beta), log_of(weights), delta)
    expected = (1 - beta) * weights.astype(np.float64) + beta * new.astype(np.float64)
    np.testing.assert_allclose(exp64(moved), expected, rtol=4e-5)


@pytest.mark.parametrize("rare", [1e-9, 1e-30])
def test_ema_keeps_a_rare_domain_alive(rare):
    log_weights = log_of([rare, 1.0])
    delta = jnp.array([0.0, 0.0])
    moved = apply(simplex.log_space_ema(0.1), log_weights, delta)
    np.testing.assert_allclose(exp64(moved), [rare, 1.0], rtol=2e-5)
    raised = apply(simplex.log_space_ema(0.1), log_weights, jnp.array([5.0, -1e-6]))
    expected = rare * (0.9 + 0.1 * np.exp(5.0))
    np.testing.assert_allclose(exp64(raised)[0], expected, rtol=2e-5)


def test_ema_of_an_enormous_step():
    moved = apply(
        simplex.log_space_ema(0.1), log_of([0.5, 0.5]), jnp.array([-1e4, 0.0])
    )
    np.testing.assert_allclose(exp64(moved), [0.45, 0.5], rtol=1e-5)


# --- floor


def brute_force_projection(weights, minimum):
    """argmin KL(x ‖ weights) on the simplex, x ≥ minimum: the best set of clamped."""
    best, found = np.inf, None
    for flags in itertools.product([False, True], repeat=len(weights)):
        clamped = np.array(flags)
        rest = weights[~clamped].sum()
        left = 1 - minimum * clamped.sum()
        x = np.full(len(weights), minimum)
        if clamped.all():
            if abs(left) > 1e-6:
                continue
        elif rest > 0:
            x[~clamped] = weights[~clamped] * left / rest
        if (x < minimum - 1e-12).any():
            continue
        divergence = np.sum(x * np.log(x / weights))
        if divergence < best:
            best, found = divergence, x
    return found


@jax.jit
def floored(minimum, log_weights):
    return apply(simplex.floor(minimum), log_weights, jnp.zeros_like(log_weights))


@given(weights_and(st.just(None)), st.floats(0.001, 1.0))
@settings(deadline=None)
def test_floor_is_the_projection(case, share):
    weights = case[0]
    alive = weights > 0
    minimum = share / alive.sum()
    moved = floored(minimum, log_of(weights))
    expected = np.zeros(len(weights))
    normalised = weights[alive].astype(np.float64) / weights.astype(np.float64).sum()
    expected[alive] = brute_force_projection(normalised, minimum)
    np.testing.assert_allclose(exp64(moved), expected, atol=1e-6)
    assert (exp64(moved)[alive] >= minimum * (1 - 1e-5)).all()


@pytest.mark.parametrize("count", [1, 3, 10, 1000])
def test_floor_that_leaves_no_choice(count):
    weights = np.random.default_rng(0).dirichlet(np.full(count, 0.1)).astype(np.float32)
    weights = np.append(np.maximum(weights, 1e-30), DEAD)
    moved = floored(1 / count, log_of(weights))
    np.testing.assert_allclose(exp64(moved)[:-1], 1 / count, rtol=1e-5)
    assert moved[-1] == -jnp.inf


def test_floor_raises_what_vanished():
    log_weights = jnp.array([0.0, -80.0, -5.0, -jnp.inf])
    delta = jnp.array([0.0, 0.0, -1e4, 0.0])
    moved = apply(simplex.floor(1e-9), log_weights, delta)
    np.testing.assert_allclose(exp64(moved), [1, 1e-9, 1e-9, 0], rtol=1e-5)


@pytest.mark.parametrize("minimum", [0.0, 1e-44, 1e-38])
def test_a_floor_too_low_for_float32_kills_nobody(minimum):
    log_weights = jnp.array([0.0, -80.0, -200.0, -jnp.inf])
    moved = apply(simplex.floor(minimum), log_weights, jnp.zeros(4))
    assert np.isfinite(moved[:3]).all()
    assert moved[0] >= moved[1] > moved[2]


def test_floor_where_clamping_clamps_more():
    # 0.2 is above the floor until the three small ones have taken their share.
    weights = [0.7, 0.2, 0.04, 0.03, 0.03]
    moved = apply(simplex.floor(0.19), log_of(weights), jnp.zeros(5))
    np.testing.assert_allclose(exp64(moved), [0.24, 0.19, 0.19, 0.19, 0.19], rtol=1e-5)


# --- skipping


def counting():
    """An inner transform with a state that shows every update."""
    return optax.GradientTransformation(
        lambda params: jnp.zeros(()), lambda u, state, params=None: (u, state + 1)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_signal_is_skipped_and_counted(bad):
    transform = simplex.skip_nonfinite(counting())
    log_weights = log_of([0.5, 0.5])
    state = transform.init(log_weights)
    _, state = transform.update(jnp.array([1.0, -1.0]), state, log_weights)
    delta, after = transform.update(jnp.array([1.0, bad]), state, log_weights)
    np.testing.assert_array_equal(delta, 0)
    assert (after.skipped, after.inner) == (1, 1)
    probed = np.array([True, False])
    delta, after = transform.update(
        jnp.array([1.0, bad]), after, log_weights, probed=probed
    )
    assert delta[0] == 1
    assert (after.skipped, after.inner) == (1, 2)


def test_an_increment_that_is_no_number_is_skipped_and_counted():
    transform = simplex.skip_nonfinite(optax.stateless(lambda signal, _: 1 / signal))
    log_weights = log_of([0.5, 0.5])
    state = transform.init(log_weights)
    for signal, skipped in (([1.0, 2.0], 0), ([1.0, 0.0], 1), ([2.0, 4.0], 1)):
        delta, state = transform.update(jnp.array(signal), state, log_weights)
        assert state.skipped == skipped
        assert np.isfinite(delta).all()


# --- who was probed


@given(
    weights_and(st.tuples(st.floats(-30, 30, width=32), st.booleans())),
    st.floats(-5, 5, width=32),
)
@settings(deadline=None)
def test_a_constant_and_the_rest_do_not_matter(case, constant):
    """What counts of increments is what those probed gain on each other."""
    weights, values = case
    signal = np.array([value for value, _ in values], np.float32)
    probed = np.array([flag for _, flag in values])
    careless = simplex.among_probed(optax.stateless(lambda s, _: s + constant))
    right = simplex.among_probed(simplex.exponentiated_gradient(1.0))
    moved, expected = (
        simplex.normalise(apply(transform, log_of(weights), signal, probed=probed))
        for transform in (careless, right)
    )
    np.testing.assert_allclose(moved, expected, rtol=2e-5, atol=2e-4)
    np.testing.assert_allclose(moved[~probed], log_of(weights)[~probed], atol=2e-5)


@pytest.mark.parametrize("beta", [1.0, 0.3, 1e-4])
@pytest.mark.parametrize("size", [3, 64, 4096])
def test_what_is_right_keeps_its_last_bits(size, beta):
    rng = np.random.default_rng(0)
    inner = optax.chain(
        simplex.exponentiated_gradient(5.0), simplex.log_space_ema(beta)
    )
    for share in (0.5, 1.0):
        weights = log_of(rng.dirichlet(np.full(size, 0.3)))
        signal = rng.normal(size=size).astype(np.float32)
        probed = rng.random(size) < share
        np.testing.assert_array_equal(
            apply(simplex.among_probed(inner), weights, signal, probed=probed),
            apply(inner, weights, signal, probed=probed),
        )
