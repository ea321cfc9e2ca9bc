"""K-means and embedding in two processes of four devices are as in one of eight.

Run as a program, this file is one of these processes.
"""

import pathlib
import sys

import jax
import numpy as np
import pytest

from dga_jax import sharding
from dga_jax.prepare.clusters import kmeans
from dga_jax.prepare.clusters.minilm import MiniLM
from dga_jax.prepare.clusters.tfidf import TfidfEmbedder
from dga_jax.prepare.clusters.tree import Tree
from dga_jax.training import distributed

WORDS = ["gold", "wheat", "rain", "ship", "bank", "loan", "paper", "tooth", "sugar"]


def texts_of(seed, number):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 90))) for _ in range(number)]


def uneven():
    """Groups of 1 to 900 points, two empty, one of equal points, in random order."""
    rng = np.random.default_rng(0)
    sizes = [1, 900, 0, 17, 64, 5, 230, 0]
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    points = rng.normal(size=(len(groups), 6)).astype(np.float32)
    points += 20 * rng.normal(size=(len(sizes), 6)).astype(np.float32)[groups]
    points[groups == 4] = points[groups == 4][0]
    return points, groups, len(sizes)


def found_together(vectors):
    """What all processes must find alike, by name."""
    points, groups, num_groups = uneven()
    found = {}
    for start in ("kmeans++", "sample"):
        for bound in (0, 1.5):
            name = f"{start} {bound}"
            level = kmeans.fit(
                points, groups, num_groups, 8, start=start, max_imbalance=bound, seed=3
            )
            for field, value in zip(level._fields, level, strict=True):
                found[f"{name} {field}"] = np.asarray(value)
            model = (level.centroids, level.prices)
            found[f"{name} alone"] = kmeans.assign(points, groups, *model)
            mesh = sharding.make_mesh()
            found[f"{name} labels"] = kmeans.assign(points, groups, *model, mesh)
            np.testing.assert_array_equal(
                found[f"{name} labels"], found[f"{name} alone"]
            )
    tree = Tree((4, 3)).fit_level(vectors).fit_level(vectors, max_imbalance=1.5)
    for level in range(2):
        found[f"centroids {level}"] = tree.centroids[level]
        found[f"prices {level}"] = tree.prices[level]
    # Nobody waits for one that assigns in smaller parts.
    parts = np.array_split(vectors, 1 + jax.process_index())
    found["tree"] = np.concatenate([tree.assign(part) for part in parts])
    embedder = TfidfEmbedder.fit(texts_of(0, 200))
    found["tfidf"] = np.array(embedder.digest)
    return found


def found_apart(index):
    """What a process finds of texts that only it has."""
    texts = texts_of(index, 40 - 35 * index)
    return MiniLM.load().embed(texts)


def main(vectors, output):
    distributed.initialize()
    index = jax.process_index()
    assert (jax.device_count(), jax.local_device_count()) == (8, 4)
    with distributed.together():
        found = found_together(np.load(vectors))
        np.savez(output.format(index), apart=found_apart(index), **found)


@pytest.mark.slow
def test_two_processes(vectors, tmp_path):
    from processes import finish, start

    np.save(tmp_path / "vectors.npy", vectors)
    arguments = (pathlib.Path(__file__), tmp_path / "vectors.npy", tmp_path / "{}.npz")
    processes = start(arguments)
    expected = found_together(vectors)
    finish(processes)
    for index in range(2):
        found = dict(np.load(tmp_path / f"{index}.npz"))
        np.testing.assert_allclose(
            found.pop("apart"), found_apart(index), rtol=0, atol=1e-5
        )
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
