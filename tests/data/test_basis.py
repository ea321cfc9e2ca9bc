"""Bases: the algebra."""

import numpy as np
from distributions import dense
from hypothesis import given
from hypothesis import strategies as st

from dga_jax.data.basis import Basis


@st.composite
def bases(draw):
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    matrix = rng.dirichlet(np.full(columns, draw(st.floats(0.05, 5))), size=rows)
    return Basis.of([str(j) for j in range(rows)], matrix), rng


@given(bases())
def test_mixtures_are_on_the_simplex_and_linear(case):
    basis, rng = case
    size = len(basis.names)
    v, w = rng.dirichlet(np.ones(size), size=2)
    alpha = basis.mix(w)
    assert alpha.dtype == np.float64
    assert (alpha >= 0).all()
    assert abs(alpha.sum() - 1) <= 1e-12
    assert (alpha >= dense(basis).min(axis=0) - 1e-12).all()
    assert (alpha <= dense(basis).max(axis=0) + 1e-12).all()
    between = basis.mix(0.3 * v + 0.7 * w)
    np.testing.assert_allclose(between, 0.3 * basis.mix(v) + 0.7 * alpha, atol=1e-12)
    for j, corner in enumerate(np.eye(size)):
        np.testing.assert_array_equal(basis.mix(corner), dense(basis)[j])


def test_float32_weights_are_mixed_in_float64():
    matrix = np.array([[1e-9, 1 - 1e-9], [0.0, 1.0]])
    alpha = Basis.of(("a", "b"), matrix).mix(np.float32([0.5, 0.5]))
    np.testing.assert_allclose(alpha, [5e-10, 1 - 5e-10], rtol=1e-12)
