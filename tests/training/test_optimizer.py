import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import mesh_of, small_config
from small import ADAM

from dga_jax.training import config as configs
from dga_jax.training import train_state
from dga_jax.training.optimizer import (
    SCHEDULES,
    learning_rate,
    make_optimizer,
    precondition,
)

CONFIG = dataclasses.replace(
    ADAM, learning_rate=0.1, steps=100, warmup_steps=10, eps=1e-8
)


def rates(**fields):
    """The rate that every train step uses."""
    config = dataclasses.replace(CONFIG, **fields)
    return np.array([learning_rate(config)(count) for count in range(config.steps)])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_is_linear_and_wastes_no_step(schedule):
    found = rates(schedule=schedule)
    np.testing.assert_allclose(found[:10], 0.1 * np.arange(1, 11) / 10, rtol=1e-5)
    assert found[10] == pytest.approx(0.1, rel=1e-3)


@given(
    st.sampled_from(SCHEDULES),
    st.integers(1, 12),
    st.integers(0, 12),
    st.sampled_from([0.0, 0.2, 1.0]),
)
def test_any_number_of_steps(schedule, steps, warmup, decay):
    found = rates(
        schedule=schedule, steps=steps, warmup_steps=warmup, decay_fraction=decay
    )
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert (found <= 0.1 * (1 + 1e-6)).all()
    peak = int(np.argmax(found))
    assert (np.diff(found[: peak + 1]) >= 0).all()
    assert (np.diff(found[peak:]) <= 1e-9).all()


def test_cosine():
    found = rates(schedule="cosine", warmup_steps=0)
    phase = np.cos(np.pi * np.arange(100) / 100)
    np.testing.assert_allclose(found, 0.01 + 0.09 * (1 + phase) / 2, rtol=1e-5)


def test_wsd_is_stable_and_then_linear():
    found = rates(schedule="wsd")
    np.testing.assert_allclose(found[9:81], 0.1, rtol=1e-6)
    np.testing.assert_allclose(np.diff(found[80:]), -0.09 / 20, rtol=1e-3)
    assert found[-1] == pytest.approx(0.01 + 0.09 / 20, rel=1e-4)


def test_constant_without_warm_up():
    assert (rates(warmup_steps=0) == 0.1).all()


PARAMS = {
    "norm": {"scale": jnp.array([1.0, -2.0])},
    "linear": {"kernel": jnp.array([[3.0, -1.0], [0.5, 2.0]])},
}
GRADIENT = {
    "norm": {"scale": jnp.array([0.3, 0.4])},
    "linear": {"kernel": jnp.array([[1.0, -2.0], [0.0, 3.0]])},
}


def first_update(**fields):
    optimizer = make_optimizer(
        dataclasses.replace(CONFIG, **({"warmup_steps": 0, "eps": 1.0} | fields))
    )
    state = optimizer.init(PARAMS)
    return optimizer.update(GRADIENT, state, PARAMS)[0]


def adam(gradient):
    """The first step of Adam with ε = 1 (its corrected moments are g and g²)."""
    return -0.1 * gradient / (jnp.abs(gradient) + 1.0)


def test_first_update_is_adams():
    update = first_update()
    np.testing.assert_allclose(
        update["linear"]["kernel"], adam(GRADIENT["linear"]["kernel"]), rtol=1e-5
    )


def test_decay_spares_the_norms():
    plain, decayed = first_update(), first_update(weight_decay=0.5)
    np.testing.assert_array_equal(decayed["norm"]["scale"], plain["norm"]["scale"])
    np.testing.assert_allclose(
        decayed["linear"]["kernel"] - plain["linear"]["kernel"],
        -0.1 * 0.5 * PARAMS["linear"]["kernel"],
        rtol=1e-5,
    )


def test_every_matrix_of_the_model_decays(byte_store):
    model = configs.model_config(small_config(byte_store, model__tied_embeddings=False))
    optimizer = make_optimizer(
        dataclasses.replace(CONFIG, weight_decay=0.5, warmup_steps=0)
    )
    shapes = train_state.abstract_state(model, optimizer, mesh_of(1, 1, 1)).params
    params = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
    zero = jax.tree.map(jnp.zeros_like, params)
    update = optimizer.update(zero, optimizer.init(params), params)[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(update):
        assert bool(jnp.any(leaf != 0)) == (path[-1].key != "scale"), path


@pytest.mark.parametrize("bound", [1.0, 100.0])
def test_clipping(bound):
    norm = float(jnp.sqrt(0.25 + 14.0))
    factor = min(1.0, bound / norm)
    update = first_update(clip_norm=bound)
    expected = adam(GRADIENT["linear"]["kernel"] * factor)
    np.testing.assert_allclose(update["linear"]["kernel"], expected, rtol=1e-5)


def test_precondition_by_hand():
    """P⁻¹g from second moments summed up by hand over three updates."""
    config = dataclasses.replace(CONFIG, eps=0.01)
    optimizer = make_optimizer(config)
    state = optimizer.init(PARAMS)
    moment = jax.tree.map(jnp.zeros_like, PARAMS)
    for factor in (1.0, -2.0, 0.5):
        gradient = jax.tree.map(lambda g, f=factor: f * g, GRADIENT)
        state = optimizer.update(gradient, state, PARAMS)[1]
        moment = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g**2, moment, gradient)
    found = precondition(config, state, PARAMS)
    expected = jax.tree.map(
        lambda p, v: p / (jnp.sqrt(v / (1 - 0.95**3)) + 0.01), PARAMS, moment
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_precondition_before_the_first_step_is_finite():
    config = dataclasses.replace(CONFIG, eps=0.5)
    state = make_optimizer(config).init(PARAMS)
    found = precondition(config, state, GRADIENT)
    np.testing.assert_allclose(
        found["linear"]["kernel"], GRADIENT["linear"]["kernel"] / 0.5
    )
