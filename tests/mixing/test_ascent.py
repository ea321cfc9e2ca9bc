"""What a mixer does about noise, and steps without units."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dga_jax.mixing import ascent, mixers
from dga_jax.mixing.signals import Signals

K, RUNS, UPDATES, ROWS = 8, 200, 200, 8


@functools.cache
def mean_weights(debias):
    """A function of the noise: the mean over runs of the last weights, times K.

    There is no true alignment at all. The errors are those that eight rows give, as
    they are measured.
    """
    mixer = mixers.dga(5.0, 0.1, debias=debias)
    start = mixers.init(mixer, np.full(K, 1 / K))

    def one(noise, state, key):
        rows = jax.random.normal(key, (K, ROWS)) * noise[:, None]
        rows *= ROWS**0.5
        errors = jnp.std(rows, axis=1, ddof=1) / ROWS**0.5
        signals = Signals(alignments=rows.mean(axis=1), standard_errors=errors)
        return mixers.update(mixer, state, signals, step=1), None

    def run(noise, key):
        update, keys = functools.partial(one, noise), jax.random.split(key, UPDATES)
        last, _ = jax.lax.scan(update, start, keys)
        return jnp.exp(last.log_weights)

    runs = jax.jit(jax.vmap(run, (None, 0)))
    keys = jax.random.split(jax.random.key(0), RUNS)
    return lambda noise: K * np.asarray(runs(jnp.asarray(noise), keys)).mean(axis=0)


@pytest.mark.parametrize(
    "noise",
    [[0.1] + [0.02] * 7, [0.1, 0.1, 0.05, 0.05, 0.02, 0.02, 0.01, 0.01]],
    ids=["one", "several"],
)
def test_noise_moves_no_weight(noise):
    """Within 10% after 200 updates of the paper's β; it doubles a weight without."""
    assert mean_weights(debias=False)(noise).max() > 1.7
    found = mean_weights(debias=True)(noise)
    np.testing.assert_allclose(found, 1, atol=0.1)


def signals_of(values, errors=None):
    values = jnp.asarray(values, jnp.float32)
    errors = None if errors is None else jnp.asarray(errors, jnp.float32)
    return Signals(alignments=values, standard_errors=errors)


def moved(mixer, start, signals, probed=None):
    state = mixers.init(mixer, start)
    state = mixers.update(mixer, state, signals, step=1, probed=probed)
    assert state.inner.skipped == 0
    return np.exp(np.asarray(state.log_weights, np.float64))


def divergence(new, old):
    there = new > 0
    return float(np.sum(new[there] * np.log(new[there] / old[there])))


START = np.array([0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
@pytest.mark.parametrize("kl", [1e-4, 0.01, 0.5])
def test_a_step_of_a_given_divergence(scale, kl):
    """Whatever the unit of the alignments, and η."""
    signals = signals_of(scale * np.array([0.1, -0.3, 0.2, 0.0]))
    found = [moved(mixers.dga(eta, 1.0, kl=kl), START, signals) for eta in (0.0, 7.0)]
    np.testing.assert_array_equal(*found)
    assert divergence(found[0], START) == pytest.approx(kl, rel=1e-2)
    # Along the same path as a step of some η.
    logs = np.log(found[0] / START)
    assert (logs[1] - logs[3]) / (logs[2] - logs[3]) == pytest.approx(-1.5, rel=1e-2)


def test_a_divergence_that_cannot_be():
    """All on the best is as far as one can go; equal alignments go nowhere."""
    mixer = mixers.dga(1.0, 1.0, kl=9.0)
    far = moved(mixer, START, signals_of([0, 0, 0, 1]))
    np.testing.assert_allclose(far, [0, 0, 0, 1], atol=1e-6)
    still = moved(mixer, START, signals_of([2, 2, 2, 2]))
    np.testing.assert_allclose(still, START, rtol=1e-6)


def test_the_divergence_is_before_the_average_and_of_those_probed():
    probed = np.array([True, True, False, True])
    mixer = mixers.dga(1.0, 0.25, kl=0.05)
    found = moved(mixer, START, signals_of([0.1, -0.2, 9, 0.3]), probed)
    hat = START + (found - START) / 0.25
    assert divergence(hat, START) == pytest.approx(0.05, rel=1e-2)
    assert found[2] == pytest.approx(START[2], rel=1e-5)


def test_debias_by_hand():
    a, s = np.array([0.1, -0.2, 0.3, 0.0]), np.array([0.2, 0.1, 0.4, np.nan])
    gain = 2 * a - 0.5 * (2 * np.nan_to_num(s)) ** 2 * (1 - 2 * START)
    hat = START * np.exp(gain) / (START * np.exp(gain)).sum()
    found = moved(mixers.dga(2.0, 0.25, debias=True), START, signals_of(a, s))
    np.testing.assert_allclose(found, 0.75 * START + 0.25 * hat, rtol=1e-5)


def test_shrinking_by_hand():
    a, s = np.array([1.0, 2.0, 4.0, 5.0]), np.array([0.5, 1.0, 0.5, 0.0])
    between = a.var(ddof=1) - np.mean(s**2)
    w = 1 / (between + s**2)
    middle = (w * a).sum() / w.sum()
    expected = middle + (a - middle) * between / (between + s**2)
    every = jnp.ones(4, bool)
    found, errors = ascent.shrunk(jnp.asarray(a), jnp.asarray(s), every)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(errors, s * between / (between + s**2), rtol=1e-5)
    raised = START * np.exp(0.5 * expected)
    now = moved(mixers.dga(0.5, 1.0, shrink=True), START, signals_of(a, s))
    np.testing.assert_allclose(now, raised / raised.sum(), rtol=1e-5)


def test_what_is_all_noise_shrinks_to_nothing():
    signals = signals_of([0.1, -0.1, 0.2, 0.0], [5.0, 5.0, 5.0, 5.0])
    found = moved(mixers.dga(9.0, 1.0, shrink=True), START, signals)
    np.testing.assert_allclose(found, START, rtol=1e-5)


def test_beta_adapts_to_the_noise():
    a, s = np.array([0.5, -0.5, 0.4, 0.0]), np.array([0.2, 0.1, 0.3, 0.1])
    mean = START @ a
    variance = START @ (a - mean) ** 2
    beta = 0.8 * (1 - START @ s**2 / variance)
    assert 0.2 < beta < 0.7
    hat = START * np.exp(a) / (START * np.exp(a)).sum()
    found = moved(mixers.dga(1.0, 0.8, adapt=True), START, signals_of(a, s))
    np.testing.assert_allclose(found, (1 - beta) * START + beta * hat, rtol=1e-5)
    still = moved(mixers.dga(1.0, 0.8, adapt=True), START, signals_of(a, 9 * s))
    np.testing.assert_allclose(still, START, rtol=1e-6)


def test_without_errors_they_are_exact():
    """Arrays alone, or errors that are not known, change nothing."""
    a = np.array([0.1, -0.2, 0.3, 0.0])
    plain = moved(mixers.dga(2.0, 0.25), START, signals_of(a))
    careful = mixers.dga(2.0, 0.25, debias=True, adapt=True, shrink=True)
    for errors in (None, np.full(4, np.nan)):
        found = moved(careful, START, signals_of(a, errors))
        np.testing.assert_allclose(found, plain, rtol=1e-5)
