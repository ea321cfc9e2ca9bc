"""K-means in many groups against faiss and brute force."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import inertia_of_faiss

from dga_jax import sharding
from dga_jax.prepare.clusters import kmeans

SEEDS = range(4)


def one_group(points):
    return np.zeros(len(points), np.int64)


def costs(points, groups, centroids, prices):
    """Squared distances and squared distances plus prices, float64 [n, K]."""
    offsets = points[:, None].astype(np.float64) - centroids[groups]
    distances = (offsets**2).sum(axis=-1)
    return distances, distances + prices[groups]


def check_level(points, groups, level):
    """Counts, inertia and `assign` are what brute force finds for the centroids."""
    distances, cost = costs(points, groups, level.centroids, level.prices)
    labels = kmeans.assign(points, groups, level.centroids, level.prices)
    rows = np.arange(len(points))
    scale = 1e-6 * max(np.square(points).sum(axis=1).max(), 1)
    assert (cost[rows, labels] - cost.min(axis=1)).max() <= scale
    found = np.zeros_like(level.counts)
    np.add.at(found, (groups, labels), 1)
    np.testing.assert_array_equal(level.counts, found)
    np.testing.assert_array_equal(level.counts == 0, np.isinf(level.prices))
    expected = distances[rows, labels].sum()
    np.testing.assert_allclose(
        level.inertia, expected, rtol=1e-5, atol=scale * len(points)
    )
    return labels


@pytest.mark.parametrize("k", [16, 32])
def test_is_as_good_as_faiss(vectors, k):
    of_faiss = [inertia_of_faiss(vectors, k, seed + 1) for seed in SEEDS]
    for start, slack in (("kmeans++", 1.02), ("sample", 1.05)):
        ours = [
            kmeans.fit(vectors, one_group(vectors), 1, k, start=start, seed=seed)
            for seed in SEEDS
        ]
        inertia = [level.inertia for level in ours]
        assert np.mean(inertia) <= slack * np.mean(of_faiss)
        assert len(set(inertia)) > 1, "the seed does nothing"
        if start == "kmeans++":
            assert max(inertia) <= slack * max(of_faiss)
            check_level(vectors, one_group(vectors), ours[0])


@pytest.mark.parametrize("start", ["kmeans++", "sample"])
def test_inertia_never_rises(vectors, start):
    groups = np.arange(len(vectors)) % 3
    inertia = [
        kmeans.fit(
            vectors, groups, 3, 12, start=start, iterations=n, tolerance=0, seed=5
        ).inertia
        for n in range(1, 7)
    ]
    assert (np.diff(inertia) <= 1e-6 * inertia[0]).all()
    assert inertia[-1] < 0.97 * inertia[0]


def test_the_second_point_is_drawn_in_proportion_to_squared_distance():
    G = 3000
    groups = np.repeat(np.arange(G), 3)
    points = np.tile(np.array([[0], [1], [3]], np.float32), (G, 1))
    mesh = sharding.make_mesh()
    drawn_Gx2 = np.asarray(
        kmeans._plus_plus(
            kmeans.cut(points, groups, G, mesh)[0],
            jax.random.key(0),
            num_groups=G,
            k=2,
            mesh=mesh,
        )
    )[..., 0]
    for first, shares in (
        (0, {0: 0, 1: 1 / 10, 3: 9 / 10}),
        (1, {0: 1 / 5, 1: 0, 3: 4 / 5}),
        (3, {0: 9 / 13, 1: 4 / 13, 3: 0}),
    ):
        second = drawn_Gx2[drawn_Gx2[:, 0] == first, 1]
        assert len(second) == pytest.approx(G / 3, rel=0.1)
        for point, share in shares.items():
            deviation = np.sqrt(share * (1 - share) / len(second))
            assert abs((second == point).mean() - share) <= 4 * deviation


def test_an_empty_cluster_takes_part_of_the_largest():
    rng = np.random.default_rng(0)
    # Most of the points that it starts from are the same one.
    same = np.ones((900, 4), np.float32)
    points = np.concatenate([same, rng.normal(size=(100, 4)).astype(np.float32)])
    for seed in SEEDS:
        level = kmeans.fit(points, one_group(points), 1, 10, start="sample", seed=seed)
        assert (level.counts > 0).all()


def uneven(seed=0, d=6):
    """Groups of 1 to 3000 points, two empty, one of equal points, in random order."""
    rng = np.random.default_rng(seed)
    sizes = [1, 3000, 0, 17, 64, 5, 400, 0]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    points = rng.normal(size=(len(groups), d)).astype(np.float32)
    points[groups == 4] = points[groups == 4][0]
    # Other groups' points are far from a group's own.
    points += 20 * rng.normal(size=(len(sizes), d)).astype(np.float32)[groups]
    order = rng.permutation(len(groups))
    return points[order], groups[order], len(sizes)


@pytest.mark.parametrize("start", ["kmeans++", "sample"])
def test_groups_are_independent(start):
    points, groups, G = uneven()
    k = 8
    level = kmeans.fit(points, groups, G, k, start=start, tolerance=0, iterations=8)
    labels = check_level(points, groups, level)
    np.testing.assert_array_equal(
        level.counts.sum(axis=1), np.bincount(groups, minlength=G)
    )
    present = (level.counts > 0).sum(axis=1)
    np.testing.assert_array_equal(present, [1, k, 0, k, 1, 5, k, 0])
    for group, cluster in np.argwhere(level.counts > 1):
        own = points[(groups == group) & (labels == cluster)].astype(np.float64)
        # Means move little in the last round, and by nothing of other groups.
        assert np.abs(own.mean(axis=0) - level.centroids[group, cluster]).max() < 0.4
    single = points[groups == 0][0]
    np.testing.assert_allclose(
        level.centroids[0, level.counts[0] > 0][0], single, rtol=1e-6
    )


def test_a_group_does_not_change_for_the_others():
    points, groups, G = uneven()
    rng = np.random.default_rng(1)
    centroids = rng.normal(size=(G, 8, points.shape[1])).astype(np.float32)
    prices = rng.exponential(size=(G, 8)).astype(np.float32)
    together = kmeans.assign(points, groups, centroids, prices)
    for group in (0, 1, 3):
        mine = groups == group
        alone = kmeans.assign(
            points[mine],
            one_group(points[mine]),
            centroids[group, None],
            prices[group, None],
        )
        np.testing.assert_array_equal(alone, together[mine])
    order = rng.permutation(len(points))
    np.testing.assert_array_equal(
        kmeans.assign(points[order], groups[order], centroids, prices), together[order]
    )


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=5, max_size=5).filter(any),
    absent=st.lists(st.booleans(), min_size=15, max_size=15),
    priced=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_assign_is_the_least_cost(sizes, absent, priced, seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(5), sizes))
    # Sums of a few small integers and eighths are exact, so ties are too.
    points = rng.integers(-4, 5, (len(groups), 3)).astype(np.float32)
    centroids = rng.integers(-4, 5, (5, 4, 3)).astype(np.float32)
    prices = priced * rng.integers(0, 80, (5, 4)).astype(np.float32) / 8
    prices[:, 1:][np.reshape(absent, (5, 3))] = np.inf
    labels = kmeans.assign(points, groups, centroids, prices)
    expected = costs(points, groups, centroids, prices)[1].argmin(axis=1)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, expected)


def separated():
    """Groups of 5 far clusters each: points, groups and centers [3, 5, 8]."""
    rng = np.random.default_rng(3)
    centers = 10 * rng.normal(size=(3, 5, 8)).astype(np.float32)
    groups = rng.integers(0, 3, 700)
    own = rng.integers(0, 5, 700)
    noise = rng.normal(size=(700, 8)).astype(np.float32)
    return centers[groups, own] + noise, groups, centers


def test_eight_devices_are_as_one():
    points, groups, centers = separated()
    one = sharding.make_mesh(devices=jax.devices()[:1])
    eight = sharding.make_mesh(2, 2, 2)
    assert eight.size == 8
    prices = np.zeros((3, 5), np.float32)
    np.testing.assert_array_equal(
        kmeans.assign(points, groups, centers, prices, one),
        kmeans.assign(points, groups, centers, prices, eight),
    )
    for start in ("sample", "kmeans++"):
        for max_imbalance in (0, 1.5):
            a, b = (
                kmeans.fit(
                    points,
                    groups,
                    3,
                    5,
                    start=start,
                    max_imbalance=max_imbalance,
                    mesh=mesh,
                )
                for mesh in (one, eight)
            )
            np.testing.assert_allclose(a.inertia, b.inertia, rtol=1e-5)
            np.testing.assert_array_equal(a.counts, b.counts)
            np.testing.assert_allclose(a.centroids, b.centroids, atol=1e-4)
            np.testing.assert_allclose(a.prices, b.prices, atol=1e-3)


@pytest.mark.parametrize("max_imbalance", [1.5, 2.0])
@pytest.mark.parametrize("num_groups", [1, 4])
def test_imbalance_is_bounded(vectors, num_groups, max_imbalance):
    k = 16
    # Neighbours in the files, so that the groups are of different texts.
    groups = np.sort(np.random.default_rng(0).integers(0, num_groups, len(vectors)))
    free = kmeans.fit(vectors, groups, num_groups, k)
    mean_Gx1 = np.bincount(groups, minlength=num_groups)[:, None] / k
    assert (free.counts > max_imbalance * mean_Gx1).any(), "nothing to bound"
    bounded = kmeans.fit(vectors, groups, num_groups, k, max_imbalance=max_imbalance)
    check_level(vectors, groups, bounded)
    assert (bounded.counts <= max_imbalance * mean_Gx1).all()
    assert bounded.inertia < 1.15 * free.inertia


def test_equal_points_stay_together():
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(40, 4)).astype(np.float32)
    # One kind has more points than a cluster may have.
    own = np.concatenate([np.arange(40).repeat(4), np.full(90, 7)])
    points = kinds[own]
    level = kmeans.fit(points, one_group(points), 1, 5, max_imbalance=1.5)
    labels = check_level(points, one_group(points), level)
    for kind in range(40):
        assert len(set(labels[own == kind])) == 1
    assert np.sort(level.counts[0])[-2] <= 1.5 * len(points) / 5


@pytest.mark.parametrize("max_imbalance", [0, 2.0])
def test_absent_clusters_get_no_points(max_imbalance):
    points = np.repeat(np.eye(3, dtype=np.float32), 50, axis=0)
    level = kmeans.fit(points, one_group(points), 1, 6, max_imbalance=max_imbalance)
    check_level(points, one_group(points), level)
    np.testing.assert_array_equal(np.sort(level.counts[0]), [0, 0, 0, 50, 50, 50])
    absent = level.counts[0] == 0
    others = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    labels = kmeans.assign(others, one_group(others), level.centroids, level.prices)
    assert not absent[labels].any()
    # Not even where an absent cluster's centroid lies.
    there = level.centroids[0, absent]
    labels = kmeans.assign(there, one_group(there), level.centroids, level.prices)
    assert not absent[labels].any()
