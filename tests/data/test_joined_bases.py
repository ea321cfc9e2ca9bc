"""Bases joined with +, and the weights that runs over them begin with."""

import re

import numpy as np
import pytest
from distributions import dense
from runs import small_config

from dga_jax.data import bases
from dga_jax.errors import UserError
from dga_jax.training.mixture import Mixture


def find(store, spec, level=1):
    available = store.domains(level).num_rows > 0
    return bases.find_basis(spec, store, level, 1.0, available)


def mixture_of(store, basis, weights, level=1):
    fields = {"mixer__basis": basis, "mixer__weights": weights, "data__level": level}
    return Mixture(small_config(store, **fields), store)


def test_the_parts_are_those_that_they_are_alone(cluster_store, tmp_path):
    path = str(tmp_path / "mine+.npy")
    rng = np.random.default_rng(0)
    matrix = rng.dirichlet(np.ones(30), 4) * (cluster_store.domains(1).num_rows > 0)
    np.save(path, matrix / matrix.sum(axis=1, keepdims=True))
    parts = ["level0", "target", "natural"]
    joined = find(cluster_store, "+".join(parts))
    alone = [find(cluster_store, part) for part in parts]
    expected = np.concatenate([dense(basis) for basis in alone])
    np.testing.assert_allclose(dense(joined), expected, atol=1e-12)
    assert joined.names[-2:] == ("target", "natural")
    assert joined.names[0] == f"level0:{alone[0].names[0]}"
    assert find(cluster_store, path).names[0] == "basis_0"  # a plus in a file's name
    mine = tmp_path / "mine.npy"
    (tmp_path / "mine+.npy").rename(mine)
    with_file = find(cluster_store, f"target+{mine}")
    assert with_file.names == ("target", *(f"{mine}:basis_{j}" for j in range(4)))
    np.testing.assert_allclose(with_file.mix(np.eye(5)[3]), np.load(mine)[2], atol=1e-8)


def test_a_run_may_begin_at_importance_sampling(cluster_store):
    mixture = mixture_of(cluster_store, "level0+target", "target=.9,level0:*=.1")
    weights = mixture.weights(mixture.init())
    assert weights[-1] == pytest.approx(0.9)
    np.testing.assert_allclose(weights[:-1], 0.1 / (len(weights) - 1), rtol=1e-5)
    available = cluster_store.domains(1).num_rows > 0
    target = bases.importance_weights(cluster_store, 1, "target", 1.0, available)
    coarse = dense(find(cluster_store, "level0")).mean(axis=0)
    alpha = mixture.domain_weights(mixture.init())
    np.testing.assert_allclose(alpha, 0.9 * target + 0.1 * coarse, rtol=1e-5)


def test_what_is_named_is_not_part_of_the_rest(cluster_store):
    mixture = mixture_of(
        cluster_store, "level0+target", "level0:*=.2,target=.5,level0:2=.3"
    )
    found = dict(zip(mixture.names, mixture.weights(mixture.init()), strict=True))
    others = len(found) - 2
    assert found["level0:2"] == pytest.approx(0.3)
    assert found["level0:0"] == pytest.approx(0.2 / others)


@pytest.mark.parametrize(
    ("basis", "weights", "level", "message"),
    [
        ("level1+target", "", 0, "config.mixer.basis=level1: the domains are those of"),
        ("level0+level0", "", 1, "a part is empty or comes twice; write each once"),
        ("level0+", "", 1, "a part is empty or comes twice"),
        ("level0+kinds", "", 1, "has no basis 'kinds', it has none"),
        ("level0+target", "level1:*=1", 1, "no domain 'level1:*'; there are level0:0"),
        ("level0+target", "level0:*=.5", 1, "the weights sum to 0.5, not to 1"),
        ("level0+target", "natural", 1, "these are weights of domains, not of a basis"),
    ],
)
def test_what_cannot_be_joined(cluster_store, basis, weights, level, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        mixture_of(cluster_store, basis, weights, level)
    assert "\n" not in str(caught.value)


def test_a_store_without_clusters_has_no_histogram(byte_store):
    with pytest.raises(UserError, match="are not clusters: it has no histograms"):
        find(byte_store, "target", 0)


@pytest.mark.parametrize("name", ["target", "natural", "level3", "a+b"])
def test_names_that_a_stored_basis_cannot_have(cluster_store, name):
    with pytest.raises(UserError, match="a name has letters"):
        bases.basis_path(cluster_store, name)
