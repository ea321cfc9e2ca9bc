"""The tree of clusters against a descent by brute force."""

import itertools

import numpy as np
import pytest
from oracle import inertia_of_faiss

from dga_jax.errors import UserError
from dga_jax.prepare.clusters import kmeans
from dga_jax.prepare.clusters.tree import Tree, check_enough

BRANCHING = (6, 4, 5)


@pytest.fixture(scope="module")
def tree(vectors):
    found = Tree(BRANCHING)
    for seed in range(3):
        found = found.fit_level(vectors, seed=seed)
    return found


def descend(tree, points, allowed=None):
    """The leaf of each point, and by how little any of its choices was made."""
    leaves, margins = np.zeros(len(points), np.int64), np.full(len(points), np.inf)
    for i, x in enumerate(points.astype(np.float64)):
        node, below = 0, tree.num_clusters
        for level, k in enumerate(tree.branching):
            below //= k
            cost = np.square(x - tree.centroids[level][node]).sum(axis=1)
            absent = np.isinf(tree.prices[level][node])
            if allowed is None:
                cost[absent] = np.inf
            else:
                first = node * k * below
                mine = allowed[first : first + k * below].reshape(k, below)
                cost[absent] = 1e6
                cost[~mine.any(axis=1)] = np.inf
            best, second = np.sort(cost)[:2]
            margins[i] = min(margins[i], second - best)
            node = node * k + cost.argmin()
        leaves[i] = node
    return leaves, margins


def check(tree, points, allowed=None):
    leaves = tree.assign(points, allowed)
    expected, margins = descend(tree, points, allowed)
    clear = margins > 1e-5
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(leaves[clear], expected[clear])
    return leaves


def same(a, b):
    assert a.branching == b.branching
    for x, y in itertools.zip_longest(
        a.centroids + a.prices, b.centroids + b.prices, fillvalue=np.nan
    ):
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, y)


def test_the_second_level_is_as_good_as_faiss(vectors):
    k = 8
    groups = Tree((8, k)).fit_level(vectors).assign(vectors)
    large = np.bincount(groups, minlength=8) >= k
    mine = large[groups]
    assert mine.mean() > 0.9
    ours, of_faiss = [], []
    for seed in range(3):
        level = kmeans.fit(vectors[mine], groups[mine], 8, k, seed=seed)
        ours.append(level.inertia)
        of_faiss.append(
            sum(
                inertia_of_faiss(vectors[groups == group], k, seed + 1)
                for group in np.flatnonzero(large)
            )
        )
    assert np.mean(ours) <= 1.02 * np.mean(of_faiss)


def test_every_level_is_trained_in_the_clusters_above(vectors, tree):
    groups = np.zeros(len(vectors), np.int64)
    for depth, k in enumerate(BRANCHING):
        level = kmeans.fit(vectors, groups, max(groups.max() + 1, 1), k, seed=depth)
        G = len(level.centroids)
        np.testing.assert_array_equal(tree.prices[depth][:G], level.prices)
        np.testing.assert_array_equal(tree.centroids[depth][:G], level.centroids)
        labels = kmeans.assign(vectors, groups, level.centroids, level.prices)
        groups = groups * k + labels
    np.testing.assert_array_equal(tree.assign(vectors), groups)


def test_assign_is_a_descent(vectors, tree):
    leaves = check(tree, vectors)
    assert leaves.dtype == np.int64
    assert tree.num_clusters == 120
    assert len(np.unique(leaves)) > 90
    rng = np.random.default_rng(0)
    check(tree, rng.normal(size=(200, vectors.shape[1])).astype(np.float32))


def test_is_assigned_in_batches(vectors, tree, monkeypatch):
    leaves = tree.assign(vectors)
    monkeypatch.setattr("dga_jax.prepare.clusters.tree._BATCH", 100)
    np.testing.assert_array_equal(tree.assign(vectors), leaves)
    assert tree.assign(vectors[:0]).shape == (0,)


def test_ids_nest(vectors, tree):
    leaves = tree.assign(vectors)
    for depth in (1, 2):
        coarser = Tree(
            BRANCHING[:depth], tree.centroids[:depth], tree.prices[:depth]
        ).assign(vectors)
        np.testing.assert_array_equal(
            coarser, leaves // np.prod(BRANCHING[depth:], dtype=int)
        )


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_points_go_where_they_are_allowed(vectors, tree, share):
    allowed = np.random.default_rng(1).random(tree.num_clusters) < share
    assert allowed.any()
    leaves = check(tree, vectors, allowed)
    assert allowed[leaves].all()


def test_all_allowed_is_as_none(vectors, tree):
    everything = np.ones(tree.num_clusters, bool)
    np.testing.assert_array_equal(
        tree.assign(vectors, everything), tree.assign(vectors)
    )


@pytest.fixture(scope="module")
def sparse():
    """A tree of 3 x 4 with absent clusters: 2 kinds of points, one of 2 points."""
    points = np.array([[4, 0], [-4, 0], [-4, 1]], np.float32).repeat(20, axis=0)
    found = Tree((3, 4)).fit_level(points[:40]).fit_level(points)
    assert np.isinf(found.prices[0]).sum() == 1
    assert np.isinf(found.prices[1]).sum() == 12 - 3
    return found, points


def test_an_absent_cluster_is_the_last_resort(sparse):
    tree, points = sparse
    own = tree.assign(points)
    assert len(set(own)) == 3
    used = set(own.tolist())
    for leaf in range(12):
        allowed = np.zeros(12, bool)
        allowed[leaf] = True
        assert (tree.assign(points, allowed) == leaf).all()
        # With a present one beside it, nobody goes there who need not.
        allowed[own] = True
        leaves = tree.assign(points, allowed)
        np.testing.assert_array_equal(leaves, own)
        assert set(leaves.tolist()) == used


@pytest.mark.parametrize("fitted", [0, 1, 2, 3])
def test_saved_and_loaded(tmp_path, tree, fitted):
    part = Tree(BRANCHING, tree.centroids[:fitted], tree.prices[:fitted])
    part.save(tmp_path / "tree.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["tree.npz"]
    loaded = Tree.load(tmp_path / "tree.npz")
    same(loaded, part)
    assert loaded.fitted == fitted


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file(tmp_path, tree, kept):
    path = tmp_path / "tree.npz"
    tree.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(UserError, match=r"tree\.npz.*remove it"):
        Tree.load(path)


def test_a_changed_or_missing_file(tmp_path, tree):
    path = tmp_path / "tree.npz"
    with pytest.raises(UserError, match=r"tree\.npz"):
        Tree.load(path)
    tree.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"tree\.npz"):
        Tree.load(path)


def test_goes_on_from_a_saved_tree(tmp_path, vectors, tree):
    found = Tree(BRANCHING)
    for seed in range(3):
        found = found.fit_level(vectors, seed=seed)
        found.save(tmp_path / "tree.npz")
        found = Tree.load(tmp_path / "tree.npz")
    same(found, tree)


def test_more_clusters_than_documents():
    check_enough((10, 10), 100)
    with pytest.raises(
        UserError, match=r"--cluster=10,10 makes 100 clusters of 99 .*--cluster=10$"
    ):
        check_enough((10, 10), 99)


@pytest.mark.parametrize(
    ("branching", "documents"),
    [((500,), 99), ((100, 100, 100), 1000), ((200, 5), 90), ((8, 8, 8), 511)],
)
def test_the_fewer_clusters_are_few_enough(branching, documents):
    with pytest.raises(UserError) as caught:
        check_enough(branching, documents)
    remedy = str(caught.value).rsplit("--cluster=", 1)[1]
    check_enough(tuple(map(int, remedy.split(","))), documents)
