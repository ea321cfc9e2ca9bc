"""A mixer written by a stranger: whatever it does, the weights stay on the simplex."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dga_jax.bounds import Above, AtLeast
from dga_jax.mixing import mixers, recipe, simplex
from dga_jax.mixing.recipe import MIXERS, Option, Recipe, mixer

SIZE = 5
THIRD_AND_FOURTH = [False, False, True, True, False]
SHARE = np.array([0.24886049, 0.24886049, 0.00455804, 0.24886049, 0.24886049])


def stateless(rule):
    """A mixer of a rule (η, signal, log-weights) -> increment."""

    def function(eta: float) -> optax.GradientTransformation:
        """One for a test."""
        return optax.stateless(
            lambda signals, weights: rule(eta, signals.alignments, weights)
        )

    return Recipe(function, ("alignments",))


def of_alignments(*links):
    """A chain of transforms that optax has, of one signal."""
    return simplex.reading(lambda signals: signals.alignments, optax.chain(*links))


def momentum(eta: float) -> optax.GradientTransformation:
    """With a state that grows."""
    return of_alignments(optax.trace(1.0), optax.scale(eta))


def adam(eta: float) -> optax.GradientTransformation:
    """With several states."""
    return of_alignments(optax.scale_by_adam(), optax.scale(eta))


NAIVE = {
    "raw": stateless(lambda eta, a, lw: eta * a),
    "far off": stateless(lambda eta, a, lw: eta * a + 100),
    "not a number": stateless(lambda eta, a, lw: jnp.log(eta * a)),
    "all for one": stateless(lambda eta, a, lw: jnp.where(a == a.max(), 0, -jnp.inf)),
    "inverse": stateless(lambda eta, a, lw: eta / a),
    "huge": stateless(lambda eta, a, lw: 1e38 * a),
    "of the weights": stateless(lambda eta, a, lw: -lw),
    "whole numbers": stateless(lambda eta, a, lw: jnp.sign(a).astype(int)),
    "over all": stateless(lambda eta, a, lw: jax.nn.log_softmax(lw + eta * a) - lw),
    "momentum": Recipe(momentum, ("alignments",)),
    "adam": Recipe(adam, ("alignments",)),
}
FLOORS = (0.0, 0.1)
MADE = {
    (name, floor): naive(lambda step: jnp.ravel(step)[0], floor=floor)
    for name, naive in NAIVE.items()
    for floor in FLOORS
}
SIGNALS = st.one_of(
    st.floats(-3, 3, width=32),
    st.floats(width=32),
    st.sampled_from([0.0, 3e38, -3e38, 1e-45]),
)


@st.composite
def sequences(draw):
    """Weights, some of them 0; then a signal, who was probed and η, several times.

    All may be, which None stands for: that is another program, which
    `test_a_mixer_need_not_normalise` has.
    """
    logs = np.array(draw(st.lists(st.floats(-40, 0), min_size=SIZE, max_size=SIZE)))
    masks = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE)
    every = st.just([True] * SIZE)
    dead = np.array(draw(masks))
    dead[draw(st.integers(0, SIZE - 1))] = False
    signals = st.lists(SIGNALS, min_size=SIZE, max_size=SIZE)
    etas = st.sampled_from([0.0, 0.1, 5.0, 1e6])
    steps = draw(st.lists(st.tuples(signals, every | masks, etas), max_size=5))
    weights = np.where(dead, 0.0, np.exp(logs))
    return weights / weights.sum(), steps


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("name", NAIVE)
@given(case=sequences())
@settings(deadline=None, max_examples=40)
# One of two probed loses all: the other takes its mass, and no third a part of it.
@example(
    case=(SHARE, [([1.0, 1.0, -0.0, 1.0, 1.0], [False, False, True, True, False], 0.1)])
)
def test_weights_stay_on_the_simplex(name, floor, case):
    weights, steps = case
    alive = weights > 0
    state = mixers.init(MADE[name, floor], weights)
    for signal, probed, eta in steps:
        probed = np.array(probed)
        before = state
        state = mixers.update(
            MADE[name, floor],
            state,
            np.array(signal, np.float32),
            step=np.array([eta], np.float32),
            probed=probed,
        )
        now = np.exp(np.asarray(state.log_weights, np.float64))
        assert abs(now.sum() - 1) <= 1e-5
        assert np.isfinite(state.log_weights)[alive].all()
        assert (now[~alive] == 0).all()
        if state.inner.skipped > before.inner.skipped:
            np.testing.assert_array_equal(state.log_weights, before.log_weights)
        elif floor:
            assert (now[alive] >= floor - 1e-6).all()
        else:
            rest = alive & ~probed
            old = np.exp(np.asarray(before.log_weights, np.float64))
            np.testing.assert_allclose(now[rest], old[rest], rtol=1e-3)


def test_a_mixer_need_not_normalise():
    """Nor ask who was probed: it is mirror ascent all the same."""
    signal = np.array([0.4, -0.1, 7.0, 0.2], np.float32)
    for probed in (None, np.array([True, True, False, True])):
        found = []
        for made in (NAIVE["raw"](2.0), mixers.dga(2.0, 1.0)):
            state = mixers.init(made, [0.1, 0.2, 0.7, 0])
            state = mixers.update(made, state, signal, step=3, probed=probed)
            found.append(state.log_weights)
        np.testing.assert_allclose(*found, rtol=1e-5)


RECORDED = {
    (0.0, False): [-1.8817791, -1.4448388, -np.inf, -2.2248123, -0.6855575],
    (0.0, True): [-2.7366214, -1.5892624, -np.inf, -1.4678631, -0.6917129],
    (0.05, False): [-1.8817790, -1.4448388, -np.inf, -2.2248123, -0.6855574],
    (0.05, True): [-2.7366219, -1.5892622, -np.inf, -1.4678630, -0.6917129],
}


@pytest.mark.parametrize(("floor", "partial"), RECORDED)
def test_dga_is_what_it_was(floor, partial):
    """Before anything was put around it from outside."""
    rng = np.random.default_rng(7)
    made = mixers.dga(optax.linear_schedule(5.0, 1.0, 10), 0.3, floor=floor)
    state = mixers.init(made, [0.1, 0.2, 0, 0.3, 0.4])
    for step in range(1, 9):
        signal = rng.normal(size=5).astype(np.float32)
        probed = np.ones(5, bool)
        if partial:
            probed[rng.choice(5, 3, replace=False)] = False
        state = mixers.update(made, state, signal, step=step, probed=probed)
    np.testing.assert_allclose(state.log_weights, RECORDED[floor, partial], rtol=1e-6)


def test_a_state_has_the_form_of_before():
    """In a checkpoint: the links of one chain, the floor the last of them."""
    for floor, links in ((0.0, 2), (0.05, 3)):
        made = mixers.dga(5.0, 0.1, floor=floor)
        state = mixers.init(made, [0.5, 0.5])
        assert state.inner.inner == (optax.EmptyState(),) * links
        state = mixers.update(made, state, np.ones(2, np.float32), step=0)
        assert state.inner.inner == (optax.EmptyState(),) * links
    assert mixers.init(mixers.static(), [0.5, 0.5]).inner == optax.EmptyState()


# --- declaring


@pytest.fixture
def registry(monkeypatch):
    """What is declared in the test is forgotten after it."""
    monkeypatch.setattr(recipe, "MIXERS", dict(MIXERS))


@pytest.mark.usefixtures("registry")
def test_arguments_are_options():
    @mixer(reads=("alignments",), start="importance")
    def mine(
        beta: float,
        rate: Annotated[float, AtLeast(0)] = 1,
        *,
        rounds: int = 3,
        sharp: bool = False,
    ) -> optax.GradientTransformation:
        """Something.

        Args:
          beta: as ever.
          rate: how fast,
            all in all: 1 is a lot.
          rounds: how many.
          sharp: or not.

        Returns:
          more: of it.
        """
        return optax.scale(rate * beta)

    assert recipe.MIXERS["mine"] is mine
    assert (mine.reads, mine.start, mine.shared) == (
        ("alignments",),
        "importance",
        ("beta",),
    )
    assert mine.options == {
        "rate": Option(1.0, AtLeast(0), "how fast, all in all: 1 is a lot"),
        "rounds": Option(3, None, "how many"),
        "sharp": Option(False, None, "or not"),
    }
    assert isinstance(mine.options["rate"].default, float)
    with pytest.raises(TypeError, match="two mixers 'mine'"):
        mixer(reads=("alignments",))(mine._function)


@pytest.mark.parametrize(
    ("kind", "default", "about", "words"),
    [
        (float, ..., "a: b.", "mixer mine: argument a has no default"),
        (list, (), "a: b.", "annotated as .*list.*; it may be float, int, bool, str"),
        (float, 1.0, "c: b.", "argument a has no line under Args:"),
        (Annotated[float, Above(1)], 1.0, "a: b.", r"argument a=1\.0: must be above 1"),
    ],
)
def test_what_cannot_be_an_option(kind, default, about, words):
    def mine(eta, a=default):
        return optax.scale(eta)

    if default is ...:
        mine.__defaults__ = None
    mine.__annotations__ = {"a": kind}
    mine.__doc__ = f"Something.\n\n    Args:\n      eta: η.\n      {about}\n"
    with pytest.raises(TypeError, match=words):
        mixer(reads=("alignments",))(mine)
    assert "mine" not in MIXERS


@pytest.mark.parametrize("name", recipe.SHARED)
def test_what_mixers_share_has_no_default(name):
    """It would never be read: the run gives the value."""
    source = f"def mine({name}: float = 3.0, a: float = 1.0): pass"
    exec(source, found := {})
    words = rf"mixer mine: argument {name}=3\.0 would never be read.* leave the default"
    with pytest.raises(TypeError, match=words):
        mixer(reads=("alignments",))(found["mine"])
    assert "mine" not in MIXERS


@pytest.mark.parametrize("name", ["floor", "shrink"])
def test_what_is_put_around_is_no_option(name):
    exec(f"def mine({name}: float = 0.0): pass", found := {})
    with pytest.raises(TypeError, match=f"argument {name} is what is put around"):
        mixer(reads=("alignments",))(found["mine"])


@pytest.mark.usefixtures("registry")
def test_a_file_is_given_as_what_it_holds():
    def mine(graph: np.ndarray | None = None, other: str = "") -> None:
        """Something.

        Args:
          graph: who teaches whom.
          other: a word.
        """

    mixer(reads=("losses",), files=("graph",))(mine)
    found = recipe.MIXERS["mine"].options
    assert found["graph"] == Option("", None, "who teaches whom")
    with pytest.raises(TypeError, match="other='' is what a file holds; its default"):
        mixer(reads=("losses",), files=("graph", "other"))(mine)


def test_switches_are_off_unless_asked_for():
    """Whoever takes one, by its name alone."""
    found = []

    def mine(eta: float, *, kl: float, adapt: bool) -> optax.GradientTransformation:
        found.append((eta, kl, adapt))
        return optax.scale(1.0)

    made = Recipe(mine, ())
    made(2.0)
    made(eta=2.0, adapt=True)
    assert found == [(2.0, 0.0, False), (2.0, 0.0, True)]


def test_an_unknown_signal():
    for reads in (("alignments", "loses"), "losses"):
        with pytest.raises(TypeError, match=r"reads=.*expected some of .*'losses'"):
            mixer(reads=reads)
