"""What holds for every mixer in the table, whoever wrote it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dga_jax.mixing import mixers
from dga_jax.mixing.mixers import MIXERS
from dga_jax.mixing.signals import ALONE, COUNTED, WITH_GAPS, Signals

SIZE, TARGETS = 4, 2
MOVING = [name for name, recipe in MIXERS.items() if recipe.moves]
OPTIONS = {"eta": 5.0, "beta": 0.3, "targets": TARGETS, "seed": 0, "batch_size": 1}
VARIANTS = {
    "plain": {},
    "floor": {"floor": 0.05},
    "careful": {"shrink": True, "kl": 0.1, "debias": True, "adapt": True},
}


def make(name, variant):
    """A mixer with those options that it takes."""
    recipe = MIXERS[name]
    given = OPTIONS | VARIANTS[variant]
    taken = (*recipe.shared, "floor", "shrink")
    return recipe(**{key: value for key, value in given.items() if key in taken})


CASES = [(n, "plain") for n in MOVING] + [("dga", "careful"), ("doge", "floor")]
MADE = {case: make(*case) for case in CASES}
NUMBERS = st.one_of(
    st.floats(0, 5, width=32),
    st.floats(-5, 5, width=32),
    st.floats(width=32),
    st.sampled_from([0.0, 3e38, -3e38, 1e-45, np.nan, np.inf, -np.inf]),
)
PLAIN = st.floats(np.float32(0.1), 5, width=32)


def shape_of(name):
    if name == "learning_rate":
        return ()
    by_target = (TARGETS,) if name.startswith("target_") else ()
    return by_target if name in ALONE else (*by_target, SIZE)


@st.composite
def signals(draw):
    """All of them: ordinary ones, or with anything anywhere."""
    found = {}
    for name in Signals._fields:
        shape = shape_of(name)
        numbers = draw(st.sampled_from([PLAIN, PLAIN, NUMBERS]))
        count = int(np.prod(shape))
        values = draw(st.lists(numbers, min_size=count, max_size=count))
        found[name] = np.array(values, np.float32).reshape(shape)
    return Signals(**found)


@st.composite
def sequences(draw):
    """Weights, some of them 0; then signals and who was probed, several times.

    All may be, which None stands for: that is another program, of which
    `test_only_what_is_read_counts` makes one by mixer.
    """
    logs = np.array(draw(st.lists(st.floats(-40, 0), min_size=SIZE, max_size=SIZE)))
    masks = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE).map(np.array)
    every = st.just(np.ones(SIZE, bool))
    dead = draw(masks)
    dead[draw(st.integers(0, SIZE - 1))] = False
    weights = np.where(dead, 0.0, np.exp(logs))
    steps = draw(st.lists(st.tuples(signals(), every | masks), max_size=4))
    return weights / weights.sum(), steps


def bad(mixer, given, probed):
    """Whether a signal that it reads, and that was measured, is no number."""
    for name in mixer.reads:
        values = getattr(given, name)
        if name not in ALONE:
            values = values[..., probed]
        right = np.isfinite(values)
        if name in WITH_GAPS:
            right |= np.isnan(values)
        if not right.all():
            return True
    return False


@pytest.mark.parametrize(("name", "variant"), CASES)
@given(case=sequences())
@settings(deadline=None, max_examples=12)
def test_weights_stay_on_the_simplex(name, variant, case):
    weights, steps = case
    alive, mixer = weights > 0, MADE[name, variant]
    state = mixers.init(mixer, weights)
    for step, (given_, probed) in enumerate(steps, 1):
        before = state
        state = mixers.update(mixer, state, given_, step=step, probed=probed)
        now = np.exp(np.asarray(state.log_weights, np.float64))
        assert abs(now.sum() - 1) <= 1e-5
        assert np.isfinite(state.log_weights)[alive].all()
        assert (now[~alive] == 0).all()
        skipped = state.inner.skipped > before.inner.skipped
        if skipped:
            np.testing.assert_array_equal(state.log_weights, before.log_weights)
        elif variant == "floor":
            assert (now[alive] >= 0.05 - 1e-6).all()
        else:
            rest = alive & ~probed
            old = np.exp(np.asarray(before.log_weights, np.float64))
            np.testing.assert_allclose(now[rest], old[rest], rtol=1e-3)
        assert skipped or not bad(mixer, given_, probed)


LOCAL = [name for name in MOVING if MIXERS[name].local]


def of_few(rng, indices, count):
    """Signals of those at `indices`; and the same among `count`, the rest 0."""
    few, wide = {}, {}
    for name in Signals._fields:
        last = () if name in ALONE else (SIZE,)
        lead = shape_of(name)[: len(shape_of(name)) - len(last)]
        if name in ALONE:
            few[name] = wide[name] = rng.uniform(1, 2, lead).astype(np.float32)
            continue
        wide[name] = np.zeros((*lead, count), np.float32)
        where = slice(None) if name in COUNTED else indices
        size = count if name in COUNTED else len(indices)
        few[name] = rng.uniform(1, 2, (*lead, size)).astype(np.float32)
        wide[name][..., where] = few[name]
    return Signals(**few), Signals(**wide)


@pytest.mark.parametrize("name", [*LOCAL, "random", "by_fisher"])
def test_few_among_many_move_as_if_all_were_looked_at(name):
    """Also twice in a row, with others, and when an update is skipped."""
    mixer, count = MADE[name, "plain"], 9
    rng = np.random.default_rng(1)
    weights = np.append(rng.dirichlet(np.ones(count - 1)), 0.0)
    state = other = mixers.init(mixer, weights)
    for step, indices in enumerate(([5, 2, 0], [2, 3, 7], [1, 5, 6], [4, 2, 0]), 1):
        indices = np.array(indices)
        few, wide = of_few(rng, indices, count)
        if step == 3:
            bad = mixer.reads[0]
            for signals in (few, wide):
                getattr(signals, bad)[...] = np.inf
        probed = np.isin(np.arange(count), indices)
        state = mixers.update(mixer, state, few, step=step, indices=indices)
        other = mixers.update(mixer, other, wide, step=step, probed=probed)
        for one, two in zip(*map(jax.tree.leaves, (state, other)), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
        assert int(state.inner.skipped) == (step >= 3)


def test_few_among_many_cost_little():
    """Nothing but the sum of all weights is taken over all of them."""
    mixer, count = MADE["velocitune", "plain"], 1000
    few, wide = of_few(np.random.default_rng(0), np.arange(3), count)
    state = mixers.init(mixer, np.full(count, 1 / count))

    def arrays(signals, **who):
        """How many of all domains there are in the program."""

        def update(state, signals):
            return mixers.update(mixer, state, signals, step=1, **who)

        return str(jax.make_jaxpr(update)(state, signals)).count(f"f32[{count}]")

    by_few = arrays(few, indices=np.arange(3))
    everywhere = arrays(wide, probed=np.arange(count) < 3)
    assert by_few < 0.5 * everywhere


@pytest.mark.parametrize("name", MOVING)
def test_only_what_is_read_counts(name):
    """And a mixer does not ask for more than it says that it reads."""
    mixer = MADE[name, "plain"]
    rng = np.random.default_rng(0)
    every = Signals(
        **{n: jnp.asarray(rng.uniform(1, 2, shape_of(n))) for n in Signals._fields}
    )
    read = Signals(**{n: getattr(every, n) for n in mixer.reads})
    state = mixers.init(mixer, np.full(SIZE, 1 / SIZE))
    for given_ in (every, read):
        found = mixers.update(mixer, state, given_, step=1)
        np.testing.assert_array_equal(
            found.log_weights, mixers.update(mixer, state, read, step=1).log_weights
        )
    missing = read._replace(**{mixer.reads[-1]: None})
    with pytest.raises(TypeError, match=f"reads {mixer.reads[-1]}, which is not"):
        mixers.update(mixer, state, missing, step=1)


@pytest.mark.parametrize(
    ("name", "signals"),
    [
        ("by_loss", {"losses": [3.0, 1.0, 9.0, 2.0, 9.0]}),
        ("by_norm", {"gradient_norms": [0.3, 0.1, 9.0, 0.2, 9.0]}),
        (  # of which the norms alone would say another order
            "by_fisher",
            {
                "gradient_norms": [0.1, 0.3, 9.0, 0.2, 9.0],
                "gradient_variances": [5.0, 0.1, 0.0, 0.3, 0.0],
            },
        ),
    ],
)
def test_alignments_are_dealt_out_in_the_order_of_another_signal(name, signals):
    values = np.array([-0.2, 0.9, 7.0, 0.3, 7.0], np.float32)
    in_order = np.array([0.9, -0.2, 0.0, 0.3, 0.0], np.float32)
    probed = np.array([True, True, False, True, False])
    weights = [0.1, 0.2, 0.3, 0.2, 0.2]
    made, plain = MIXERS[name](2.0, 0.5), mixers.dga(2.0, 0.5)
    given = {n: jnp.asarray(x) for n, x in signals.items()}
    read = Signals(alignments=jnp.asarray(values), **given)
    state = mixers.init(made, weights)
    found = mixers.update(made, state, read, step=1, probed=probed)
    state = mixers.init(plain, weights)
    right = mixers.update(plain, state, in_order, step=1, probed=probed)
    np.testing.assert_allclose(found.log_weights, right.log_weights, rtol=1e-6)


def test_random_deals_out_the_alignments():
    """Its step is DGA's by the same alignments in another order, of those probed."""
    made, plain = MIXERS["random"](2.0, 0.5, seed=3), mixers.dga(2.0, 0.5)
    values = np.array([0.3, -0.2, 0.1, 0.9, 7.0], np.float32)
    probed = np.array([True, True, False, True, True])
    state = mixers.init(made, [0.1, 0.2, 0.3, 0.4, 0])
    begun, known = mixers.init(plain, [0.1, 0.2, 0.3, 0.4, 0]), {}
    for order in itertools.permutations([0, 1, 3]):
        dealt = np.zeros(5, np.float32)
        dealt[[0, 1, 3]] = values[list(order)]
        moved = mixers.update(plain, begun, dealt, step=1, probed=probed)
        known[order] = np.asarray(moved.log_weights)[:4]
    orders = set()
    for step in range(1, 20):
        moved = mixers.update(made, state, values, step=step, probed=probed)
        found = np.asarray(moved.log_weights)[:4]
        (order,) = (o for o, right in known.items() if np.allclose(found, right, 1e-5))
        orders.add(order)
    assert len(orders) >= 4
    again = mixers.update(made, state, values, step=step, probed=probed)
    np.testing.assert_array_equal(moved.log_weights, again.log_weights)
    other = MIXERS["random"](2.0, 0.5, seed=4)
    others, mine = (
        [mixers.update(m, state, values, step=s, probed=probed) for s in range(5)]
        for m in (other, made)
    )
    assert any(
        (a.log_weights != b.log_weights).any()
        for a, b in zip(mine, others, strict=True)
    )
