"""Laws of the sampler. Statistical tests have fixed seeds and bounds far out."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from dga_jax.data.sampler import Cumulative, Sampler, permute, ranks
from dga_jax.errors import UserError

sizes_of_domains = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


def sampler_of(sizes, seed=0, **options):
    return Sampler(seed, np.concatenate([[0], np.cumsum(sizes)]), **options)


def uniform(sampler):
    return Cumulative.of(sampler.sizes > 0)


def drawn(sampler, cumulative, steps, count, cursors=None):
    """Draws of consecutive steps, and the cursors after them."""
    if cursors is None:
        cursors = np.zeros(len(sampler.sizes), np.int64)
    draws = []
    for step in steps:
        draws.append(sampler.draw(step, cumulative, cursors, count))
        sampler.advance(cursors, draws[-1].domains)
    return draws, cursors


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection(size, key):
    places = permute(np.arange(size), np.int64(size), np.uint64(key))
    assert np.array_equal(np.sort(places), np.arange(size))


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=50), st.data())
def test_permute_of_each_size_at_once(sizes, data):
    sizes = np.array(sizes)
    index = np.array([data.draw(st.integers(0, int(n) - 1)) for n in sizes])
    keys = np.arange(len(sizes)).astype(np.uint64)
    together = permute(index, sizes, keys)
    assert ((together >= 0) & (together < sizes)).all()
    apart = [permute(index[[i]], sizes[[i]], keys[[i]])[0] for i in range(len(sizes))]
    assert together.tolist() == apart


@pytest.mark.parametrize("size", [5, 12, 30])
def test_permute_is_even_over_keys(size):
    keys = np.arange(20_000).astype(np.uint64)
    for index in (0, size - 1):
        places = permute(np.int64(index), np.int64(size), keys)
        assert stats.chisquare(np.bincount(places, minlength=size)).pvalue > 1e-4
    if size < 10:  # four rounds on so few places are even for one row, not for pairs
        return
    first, last = (permute(np.int64(i), np.int64(size), keys) for i in (0, size - 1))
    pairs = np.bincount(first * size + last, minlength=size * size)
    pairs = pairs.reshape(size, size)[~np.eye(size, dtype=bool)]
    assert stats.chisquare(pairs).pvalue > 1e-4


@given(st.lists(st.integers(0, 5)))
def test_ranks(values):
    expected = [values[:i].count(value) for i, value in enumerate(values)]
    assert ranks(np.array(values, np.int64)).tolist() == expected


@given(sizes_of_domains, st.integers(0, 2**32), st.integers(1, 30))
def test_no_row_twice_in_an_epoch(sizes, seed, count):
    sampler = sampler_of(sizes, seed)
    draws, cursors = drawn(sampler, uniform(sampler), range(1, 20), count)
    rows = np.concatenate([draw.rows for draw in draws])
    domains = np.concatenate([draw.domains for draw in draws])
    assert np.array_equal(np.bincount(domains, minlength=len(sizes)), cursors)
    for domain, size in enumerate(sizes):
        of_domain = rows[domains == domain] - sampler.offsets[domain]
        assert size or not len(of_domain)
        for start in range(0, len(of_domain), size or 1):
            epoch = of_domain[start : start + size]
            assert len(set(epoch)) == len(epoch)
            assert ((epoch >= 0) & (epoch < size)).all()


def test_every_epoch_has_an_order_of_its_own():
    sampler = sampler_of([50, 50])
    draws, _ = drawn(sampler, uniform(sampler), range(40), 10)
    rows = np.concatenate([draw.rows for draw in draws])
    orders = [tuple(rows[rows < 50][i : i + 50]) for i in (0, 50, 100)]
    assert len(set(orders)) == 3
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert list(orders[0]) != sorted(orders[0])
    other = rows[rows >= 50][:50] - 50
    assert tuple(other) != orders[0]
    again, _ = drawn(sampler_of([50, 50], seed=1), uniform(sampler), range(40), 10)
    assert tuple(np.concatenate([d.rows for d in again])) != tuple(rows)


@given(sizes_of_domains, st.integers(0, 19), st.sampled_from([0, 4]))
def test_goes_on_from_any_step(sizes, stop, limit):
    limits = np.full(len(sizes), limit) if limit else None
    options = {"limits": limits, "max_epochs": 0}
    sampler = sampler_of(sizes, **options)
    whole, _ = drawn(sampler, uniform(sampler), range(20), 7)
    before, cursors = drawn(sampler, uniform(sampler), range(stop), 7)
    after, _ = drawn(
        sampler_of(sizes, **options), uniform(sampler), range(stop, 20), 7, cursors
    )
    for draw, expected in zip(before + after, whole, strict=True):
        assert np.array_equal(draw.rows, expected.rows)
        assert np.array_equal(draw.domains, expected.domains)


def test_draw_leaves_the_cursors_alone():
    sampler = sampler_of([5, 5], max_epochs=3)
    cursors = np.array([3, 4])
    sampler.draw(1, uniform(sampler), cursors, 20)
    assert cursors.tolist() == [3, 4]


def test_frequencies_are_the_weights():
    weights = np.array([0.5, 0.25, 0.15, 0.07, 0.03, 0.0])
    sampler = sampler_of([1000] * 6)
    draws, cursors = drawn(sampler, Cumulative.of(weights), range(1, 401), 256)
    assert cursors.sum() == 400 * 256
    expected = weights[:5] * cursors.sum()
    assert stats.chisquare(cursors[:5], expected).pvalue > 1e-4
    # Rows of a batch are not alike, nor are batches: domains one apart are independent.
    domains = np.concatenate([draw.domains for draw in draws])
    table = np.zeros((5, 5))
    np.add.at(table, (domains[:-1], domains[1:]), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert cursors[5] == 0


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(any),
    st.integers(1, 300),
    st.integers(0, 2**32),
)
@example([5e-324, 5e-324], 3, 0)
def test_systematic_draws_are_within_a_row_of_the_weights(weights, count, seed):
    sampler = sampler_of([9] * len(weights), seed, systematic=True)
    cumulative = Cumulative.of(np.array(weights))
    draws, _ = drawn(sampler, cumulative, range(1, 4), count)
    wanted = count * cumulative.weights / cumulative.sums[-1]
    for draw in draws:
        found = np.bincount(draw.domains, minlength=len(weights))
        assert found.sum() == count
        assert (np.abs(found - wanted) < 1 + 1e-9).all()
        assert not found[cumulative.weights == 0].any()
    again, _ = drawn(sampler, cumulative, range(1, 4), count)
    for one, other in zip(draws, again, strict=True):
        assert np.array_equal(one.rows, other.rows)


def test_systematic_draws_are_fair_and_in_any_order():
    weights = np.array([0.61, 0.27, 0.115, 0.004, 0.001, 0.0])
    sampler = sampler_of([1000] * 6, systematic=True)
    draws, cursors = drawn(sampler, Cumulative.of(weights), range(1, 4001), 16)
    mean = 4000 * 16 * weights
    # Of each batch as many rows as 16 p says, and one more with the rest's probability.
    rest = 16 * weights - np.floor(16 * weights)
    spread = np.sqrt(4000 * rest * (1 - rest))
    assert (np.abs(cursors - mean) <= 4.5 * spread).all()
    domains = np.array([draw.domains for draw in draws])
    for place in range(16):
        found = np.bincount(domains[:, place], minlength=6)[:5]
        assert stats.chisquare(found, 4000 * weights[:5]).pvalue > 1e-4
    assert all(np.diff(row).any() for row in domains)


def test_systematic_draws_of_what_is_left():
    """Where a domain has used up its epochs, the others share its rows by weight."""
    sampler = sampler_of([4, 400, 400], max_epochs=1, systematic=True)
    cumulative = Cumulative.of(np.array([0.5, 0.3, 0.2]))
    draws, cursors = drawn(sampler, cumulative, range(1, 9), 50)
    assert cursors.tolist()[0] == 4
    for draw in draws[1:]:
        found = np.bincount(draw.domains, minlength=3)
        assert (np.abs(found - [0, 30, 20]) <= 2).all()  # in two draws, each within one


def test_a_small_weight_keeps_its_share():
    weights = np.array([0.9, 1e-9, 0.1 - 1e-9])
    cumulative = Cumulative.of(weights)
    edges = np.concatenate([[0.0], cumulative.sums]) / cumulative.sums[-1]
    np.testing.assert_allclose(np.diff(edges), weights, rtol=1e-6)

    class Grid:
        """A million points around the small weight's interval, evenly spread."""

        def random(self, count):
            return 0.9 - 1e-9 + np.arange(count) * (4e-9 / count)

    domains = cumulative.draw(Grid(), 1_000_000)
    shares = np.bincount(domains, minlength=3) / 1_000_000
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=1e-4)


@given(st.lists(st.sampled_from([0.0, 1e-12, 0.3, 1.0]), min_size=2, max_size=9))
def test_weight_zero_is_never_drawn(weights):
    if not any(weights):
        weights = [*weights, 0.5]
    cumulative = Cumulative.of(np.array(weights))

    class Edges:
        """Points at all borders of intervals, the first and the last there are."""

        def random(self, count):
            points = np.concatenate(
                [[0.0, 1 - 2**-53], cumulative.sums / cumulative.sums[-1]]
            )
            points = np.concatenate([points, np.nextafter(points, 0)])
            return np.resize(points[points < 1], count)

    for domain in cumulative.draw(Edges(), 64):
        assert weights[domain] > 0


@given(sizes_of_domains, st.integers(1, 10), st.integers(0, 2**20))
def test_a_limit_of_rows_is_a_fixed_subset(sizes, limit, seed):
    sampler = sampler_of(sizes, seed, limits=np.full(len(sizes), limit))
    draws, _ = drawn(sampler, uniform(sampler), range(40), 16)
    probes = sampler.probes(7, np.flatnonzero(sizes), 2 * limit)
    rows = np.concatenate([*(draw.rows for draw in draws), probes.ravel()])
    domains = np.searchsorted(sampler.offsets, rows, side="right") - 1
    for domain, size in enumerate(sizes):
        assert len(set(rows[domains == domain])) <= min(limit, size)


def test_the_subset_is_random():
    subsets = set()
    for seed in range(20):
        sampler = sampler_of([100], seed, limits=np.array([3]))
        subset = sampler.probes(0, np.array([0]), 3)
        subsets.add(tuple(np.sort(subset[0])))
    assert len(subsets) > 15


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(0, 2**20),
)
def test_epochs_end_at_their_maximum(sizes, max_epochs, count, seed):
    sampler = sampler_of(sizes, seed, max_epochs=max_epochs)
    rng = np.random.default_rng(seed)
    weights = np.where(np.array(sizes) > 0, rng.dirichlet(np.ones(len(sizes))), 0)
    room = sum(sizes) * max_epochs
    cumulative = Cumulative.of(weights + 1e-3 * (np.array(sizes) > 0))
    draws, cursors = drawn(sampler, cumulative, range(room // count), count)
    assert (cursors <= np.array(sizes) * max_epochs).all()
    rows = np.concatenate([[], *(draw.rows for draw in draws)]).astype(int)
    assert np.bincount(rows, minlength=1).max() <= max_epochs
    with pytest.raises(UserError, match=r"data\.max_epochs="):
        drawn(sampler, cumulative, range(100, 102 + room % count), count, cursors)


def test_a_used_up_domain_leaves_its_share_to_the_others():
    sampler = sampler_of([10, 4000, 4000], max_epochs=1)
    weights = Cumulative.of(np.array([0.5, 0.3, 0.2]))
    _, cursors = drawn(sampler, weights, range(40), 100)
    assert cursors[0] == 10
    share = stats.binomtest(int(cursors[1]), int(cursors[1:].sum()), 0.6)
    assert share.pvalue > 1e-4
    assert weights.weights[0] == 0.5


@given(sizes_of_domains, st.integers(1, 50), st.integers(0, 1000))
def test_probes(sizes, rows, step):
    sampler = sampler_of(sizes)
    domains = np.flatnonzero(sizes)
    probes = sampler.probes(step, domains, rows)
    assert probes.shape == (len(domains), rows)
    for domain, of_domain in zip(domains, probes, strict=True):
        low, high = sampler.offsets[domain : domain + 2]
        assert ((of_domain >= low) & (of_domain < high)).all()
        times = np.bincount(of_domain - low, minlength=high - low)
        assert times.max() - times.min() <= 1  # without repetition, as far as there are


def test_probes_are_uniform_and_fresh():
    sampler = sampler_of([20, 30])
    probes = [sampler.probes(step, np.array([1]), 3)[0] for step in range(3000)]
    assert len({tuple(p) for p in probes}) > 2500
    counts = np.bincount(np.concatenate(probes) - 20, minlength=30)
    assert stats.chisquare(counts).pvalue > 1e-4
    alone = sampler.probes(5, np.array([1]), 3)[0]
    among = sampler.probes(5, np.array([0, 1]), 3)[1]
    assert np.array_equal(alone, among)


@given(st.integers(1, 30), st.integers(0, 40), st.integers(0, 50))
def test_probed_domains(alive, count, update):
    sizes = np.zeros(2 * alive, int)
    sizes[1::2] = 3
    sampler = sampler_of(sizes)
    probed = sampler.probed_domains(update, count)
    assert len(set(probed)) == len(probed) == min(count or alive, alive)
    assert (np.diff(probed) > 0).all()
    assert (sizes[probed] > 0).all()


@pytest.mark.parametrize(("alive", "count"), [(8, 2), (8, 3), (7, 5), (30, 7)])
def test_domains_are_probed_equally_often(alive, count):
    sampler = sampler_of([3] * alive)
    per_round = -(-alive // count)
    updates = 300 * per_round
    probed = [sampler.probed_domains(u, count) for u in range(updates)]
    times = np.bincount(np.concatenate(probed), minlength=alive)
    assert times.min() >= 300  # once a round at least
    assert times.max() <= times.mean() * 1.15
    assert len({tuple(p) for p in probed}) > per_round


def test_basis_probes_follow_the_basis():
    sampler = sampler_of([100, 0, 100, 100])
    matrix = np.array([[8 / 9, 0.0, 1 / 9, 0.0], [0.0, 0.0, 0.0, 1.0]])

    def draw(rng, count):
        return np.stack([Cumulative.of(p).draw(rng, count) for p in matrix])

    rows = sampler.basis_probes(3, draw, 4000)
    assert rows.shape == (2, 4000)
    domains = np.searchsorted(sampler.offsets, rows, side="right") - 1
    shares = np.bincount(domains[0], minlength=4)
    assert shares[1] == shares[3] == 0
    assert stats.binomtest(int(shares[0]), 4000, 8 / 9).pvalue > 1e-4
    assert (domains[1] == 3).all()
    small = sampler.basis_probes(4, draw, 20)
    assert len(set(small[1])) == 20
    assert not np.array_equal(small, sampler.basis_probes(5, draw, 20))


@given(st.integers(1, 50), st.integers(1, 120), st.integers(0, 1000))
def test_target_rows(available, rows, step):
    sampler = sampler_of([5])
    ids = sampler.target_rows(step, available, rows)
    times = np.bincount(ids, minlength=available)
    assert len(times) == available
    assert times.max() - times.min() <= 1


def test_target_rows_change_with_the_step():
    sampler = sampler_of([5])
    ids = [tuple(sampler.target_rows(step, 100, 5)) for step in range(50)]
    assert len(set(ids)) == 50


@settings(max_examples=5)
@given(st.integers(0, 2**32))
def test_many_domains(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 30, 262_144)
    sampler = sampler_of(sizes, seed, max_epochs=1)
    weights = np.where(sizes > 0, rng.exponential(size=len(sizes)), 0)
    draws, cursors = drawn(sampler, Cumulative.of(weights), range(20), 1024)
    rows = np.concatenate([draw.rows for draw in draws])
    assert len(set(rows)) == len(rows) == cursors.sum()
    domains = np.concatenate([draw.domains for draw in draws])
    assert (rows >= sampler.offsets[domains]).all()
    assert (rows < sampler.offsets[domains + 1]).all()


def test_epochs():
    sampler = sampler_of([10, 0, 4], limits=np.full(3, 5))
    assert sampler.epochs(np.array([5, 0, 6])).tolist() == [1.0, 0.0, 1.5]
