"""Signs of failure: there where the history is bad, not where it is well."""

import itertools
import json

import numpy as np
import pytest

from dga_jax.logs import signs
from dga_jax.logs.signs import KINDS, Aligned, Losses, Moves, Sign, Targets

DOMAINS = 8
UPDATES = 40


def aligned(true, error, *, updates=UPDATES, seed=0):
    """Histories after each update of alignments measured with an error."""
    rng = np.random.default_rng(seed)
    history, found = Aligned(), []
    for _ in range(updates):
        values = true + rng.normal(0, error, len(true))
        # A standard error of four rows is off by a third or more itself.
        errors = error * np.sqrt(rng.chisquare(3, len(true)) / 3)
        history = history.add(values.astype(np.float32), errors.astype(np.float32))
        found.append(history)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_alignments_that_are_all_one_are_noise(seed):
    found = [signs.noise(x) for x in aligned(np.full(DOMAINS, 0.3), 0.1, seed=seed)]
    assert found[:4] == [None] * 4
    said = [sign.figure for sign in found if sign]
    assert len(said) > UPDATES / 2
    assert 0.5 < min(said) <= max(said) <= 1


def test_alignments_that_differ_are_not_though_each_update_is_mostly_noise():
    true = np.linspace(-0.05, 0.05, DOMAINS)
    histories = aligned(true, 0.05)
    assert not any(map(signs.noise, histories[15:]))
    # One update alone could not have told.
    once = np.mean(aligned(true, 0.05, updates=1)[0].variance) / true.var(ddof=1)
    assert once > 0.5


def test_errors_that_nobody_knows_are_said_at_once():
    values = np.arange(4, dtype=np.float32)
    unknown = Aligned().add(values, np.full(4, np.nan, np.float32))
    assert signs.noise(unknown).figure == 1
    assert "not known" in str(signs.noise(unknown))
    few = Aligned().add(values, np.array([np.nan, 0.1, 0.1, 0.1], np.float32))
    assert signs.noise(few) is None
    np.testing.assert_allclose(few.variance, 0.01)


def test_an_update_that_was_not_finite_changes_nothing():
    before = Aligned().add(np.ones(3), np.ones(3))
    assert before.add(np.array([1, np.nan, 2]), np.ones(3)) == before


def moves(path):
    """The history of weights [t, n]."""
    found = Moves()
    for before, after in itertools.pairwise(path):
        found = found.add(before, after)
    return found


def test_weights_that_go_to_and_fro_swing():
    ends = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    found = signs.swings(moves(ends[np.arange(9) % 2]))
    assert found.figure == pytest.approx(0.7)
    assert signs.swings(moves(ends[np.arange(5) % 2])) is None  # too early to say


def test_weights_that_go_far_or_tremble_do_not_swing():
    way = np.linspace(0.1, 0.9, 6)[:, None]
    assert signs.swings(moves(np.hstack([way, 1 - way]))) is None
    ends = np.array([[0.55, 0.45], [0.45, 0.55]])
    assert signs.swings(moves(ends[np.arange(20) % 2])) is None


def losses(values, before=None):
    found = before.after() if before else Losses()
    for value in values:
        found = found.add(value)
    return found


def test_a_loss_that_rises_after_a_move():
    noise = np.random.default_rng(0).normal(0, 0.05, 20)
    before = losses(3 + noise)
    assert before.mean == pytest.approx(np.mean(3 + noise))
    assert before.squares == pytest.approx(np.sum((noise - noise.mean()) ** 2))
    assert signs.spike(before, losses(3 + noise, before)) is None
    # A step or two, and a level that is no more than another mixture's.
    assert signs.spike(before, losses([3.4, 3, 3, 3], before)) is None
    assert signs.spike(before, losses(3.25 + noise, before)) is None
    found = signs.spike(before, losses([3.2, 4, 4.5, 4, 3.5, 3, 3], before))
    assert found.figure > 0.5
    late = [3.0] * 10 + [5.0] * 9  # that has other reasons
    assert signs.spike(before, losses(late, before)) is None


def test_a_loss_among_steps_that_differ_as_much():
    before = losses([2.0, 4, 2, 4, 2, 4])
    assert signs.spike(before, losses([4.0, 4.2, 4], before)) is None


def evaluated(held_out, steering):
    found = Targets()
    for pair in zip(held_out, steering, strict=True):
        found = found.add(*pair)
    return found


def test_a_target_whose_parts_go_apart():
    down = [5.0, 4, 3, 2.5, 2]
    found = signs.overfit(evaluated([5, 4, 3.5, 3.6, 3.7], down))
    assert found.figure == pytest.approx(0.2)
    assert signs.overfit(evaluated([5, 4, 3.5, 3.6, 3.7], [5, 4, 3, 3.1, 3.2])) is None
    assert signs.overfit(evaluated([5, 4, 3.5, 3.6, 3.4], down)) is None
    assert signs.overfit(evaluated([5, 4, 3.5, 3.51, 3.51], down)) is None
    assert signs.overfit(evaluated([5, 4, 3.5, 3.6], down[:4])) is None  # once
    assert signs.overfit(evaluated([5, 4, 3.5, 3.6, 3.7], [None] * 5)) is None


def test_a_target_that_gets_worse_than_it_was():
    assert signs.unrelated(evaluated([5.5], [None])) is None
    assert signs.unrelated(evaluated([5.5, 6.5], [None] * 2)).figure == 1
    assert signs.unrelated(evaluated([5.5, 4, 5.5], [None] * 3)) is None
    # Of random characters no more is learned than how frequent they are.
    noise = [7.6, 6.1, 6.4, 6.3]
    for steering in [None] * 4, noise:
        found = signs.unrelated(evaluated(noise, steering))
        assert found.figure == pytest.approx(0.2)
    assert signs.unrelated(evaluated(noise, [7.6, 6.1, 6, 5.9])) is None  # overfitted
    assert signs.unrelated(evaluated([7.6, 6.1, 6.4, 6.11], [None] * 4)) is None
    assert signs.unrelated(evaluated([5.5, np.nan], [None] * 2)) is None


def test_collapse():
    assert signs.collapse(1.2, 8.0, 1.5).figure == 1.2
    assert signs.collapse(1.6, 8.0, 1.5) is None
    assert signs.collapse(1.2, 1.2, 1.5) is None  # so it began


def test_domains_that_are_repeated_too_often():
    epochs, names = np.array([40.0, 2, 30]), ["a", "b", "c"]
    found = signs.repeats(np.array([0.05, 0.75, 0.2]), epochs, 16, names)
    assert found.figure == pytest.approx(0.25)
    assert "c 30.0 times" in str(found)
    # However often, if hardly anything is drawn of it.
    assert signs.repeats(np.array([0.05, 0.95, 0]), epochs, 16, names) is None
    assert signs.repeats(np.array([0.5, 0.3, 0.2]), epochs, 40, names) is None


@pytest.mark.parametrize("name", KINDS)
def test_each_says_its_figure_and_what_to_turn(name):
    text = str(Sign(name, 0.75))
    assert "75" in text
    assert KINDS[name].turn in text
    assert "\n" not in text


def test_a_figure_close_to_its_limit_does_not_come_and_go():
    errors = np.full(2, 0.6, np.float32)
    history = Aligned()
    for _ in range(16):
        history = history.add(np.array([0.0, 0.3]), errors)
    assert signs.noise(history)
    near = history._replace(variance=[0.02, 0.02])
    assert signs.noise(near) is None
    assert signs.noise(near, there=True)
    assert signs.noise(history._replace(variance=[0.01, 0.01]), there=True) is None


def test_histories_go_into_json_and_come_back_as_they_were():
    histories = [
        aligned(np.ones(3), 0.1, updates=3)[-1],
        moves(np.array([[0.3, 0.7], [0.4, 0.6]])),
        losses([1 / 3, 2 / 7]),
        losses([]),
        evaluated([5, 1 / 3], [None, 0.1]),
    ]
    for history in histories:
        assert type(history)(*json.loads(json.dumps(history))) == history
