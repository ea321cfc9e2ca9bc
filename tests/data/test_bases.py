"""Histograms and bases of a store of clusters, and what training makes of them."""

import shutil

import numpy as np
import pytest
from distributions import dense
from runs import small_config

from dga_jax.data import bases
from dga_jax.data.bases import StoredBasis
from dga_jax.data.histograms import Histograms
from dga_jax.data.store import TREE, Store
from dga_jax.errors import UserError
from dga_jax.prepare.clusters.counting import count_documents
from dga_jax.prepare.clusters.embedders import load_embedder
from dga_jax.prepare.clusters.tree import Tree
from dga_jax.prepare.sources import read_documents
from dga_jax.training import validation
from dga_jax.training.mixture import Mixture

LEVELS = (0, 1)


@pytest.fixture
def store(cluster_store, tmp_path):
    """A copy, to which bases can be added."""
    shutil.copytree(cluster_store.path, tmp_path / "store")
    return Store.open(tmp_path / "store")


@pytest.fixture(scope="module")
def references(cluster_store, byte_corpora):
    """Histograms of the kinds of text that the corpus is made of."""
    return count_documents(
        load_embedder(cluster_store.path),
        Tree.load(cluster_store.path / TREE),
        (
            [(document.domain, document.text) for document in batch]
            for batch in byte_corpora["generic"].batches()
        ),
        cluster_store.domains(1).num_rows > 0,
    )


def mixture_of(store, **fields):
    return Mixture(small_config(store, **fields), store)


def alive(store, level):
    return store.domains(level).num_rows > 0


def test_histograms_count_every_document(references):
    assert len(references.names) == 8
    assert references.names == tuple(sorted(references.names))
    assert (references.documents == 30).all()
    np.testing.assert_array_equal(
        references.coarsened(5).counts.toarray(),
        references.counts.toarray().reshape(8, 6, 5).sum(axis=2),
    )


def test_nothing_is_counted_where_there_are_no_rows(cluster_store, byte_corpora):
    allowed = np.zeros(30, bool)
    allowed[[3, 17]] = True
    (shard,) = byte_corpora["target"].shards
    found = count_documents(
        load_embedder(cluster_store.path),
        Tree.load(cluster_store.path / TREE),
        [[("all", document.text) for document in read_documents(shard)]],
        allowed,
    )
    assert found.counts.sum() == 30
    assert not found.counts.toarray()[0, ~allowed].any()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("smoothing", [0.0, 1.0, 10.0])
def test_the_importance_mixer_draws_by_the_targets_histogram(
    cluster_store, level, smoothing
):
    mixture = mixture_of(
        cluster_store,
        data__level=level,
        mixer__name="importance",
        mixer__smoothing=smoothing,
    )
    counts = bases.target_histogram(cluster_store).counts.toarray()[0]
    counts = counts.reshape(len(mixture.domains), -1).sum(axis=1)
    natural = mixture.domains.tokens / mixture.domains.tokens.sum()
    expected = (counts + smoothing * natural) / (30 + smoothing)
    weights = mixture.domain_weights(mixture.init())
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    assert not mixture.moves


@pytest.mark.parametrize("level", LEVELS)
def test_a_stored_basis(store, references, level):
    bases.write_basis(store, "kinds", StoredBasis(references, True, True))
    available = alive(store, level)
    if level == 0:
        with pytest.raises(UserError, match="10 distributions over 6 domains"):
            bases.find_basis("kinds", store, 0, 1.0, available)
        return
    basis = bases.find_basis("kinds", store, level, 1.0, available)
    assert basis.names == (*references.names, "target", "natural")
    domains = store.domains(level)
    natural = domains.tokens / domains.tokens.sum()
    matrix = dense(basis)
    expected = references.counts.toarray() + natural
    expected /= references.documents[:, None] + 1
    np.testing.assert_allclose(matrix[:8], expected, atol=1e-12)
    target = bases.importance_weights(store, level, "target", 1.0, available)
    np.testing.assert_allclose(matrix[8], target, atol=1e-12)
    np.testing.assert_allclose(matrix[9], natural, atol=1e-12)


def test_without_natural_and_target(store, references):
    bases.write_basis(store, "kinds", StoredBasis(references, False, False))
    basis = bases.find_basis("kinds", store, 1, 0.0, alive(store, 1))
    assert basis.names == references.names


def test_a_basis_of_coarser_clusters(cluster_store):
    domains, parents = cluster_store.domains(1), cluster_store.domains(0)
    basis = bases.find_basis("level0", cluster_store, 1, 1.0, alive(cluster_store, 1))
    matrix = dense(basis)
    assert basis.names == tuple(parents.names)
    for j in range(6):
        inside = np.arange(30) // 5 == j
        assert not matrix[j, ~inside].any()
        share = domains.tokens[inside] / domains.tokens[inside].sum()
        np.testing.assert_allclose(matrix[j, inside], share)
    natural = parents.tokens / parents.tokens.sum()
    np.testing.assert_allclose(
        basis.mix(natural), domains.tokens / domains.tokens.sum()
    )


def test_importance_of_a_stored_set(store, references):
    bases.write_basis(store, "kinds", StoredBasis(references, True, True))
    available = alive(store, 1)
    got = bases.importance_weights(store, 1, "kinds/bible_web", 0.0, available)
    row = references.counts.toarray()[references.names.index("bible_web")]
    np.testing.assert_allclose(got, row / 30)


def test_limited_domains_get_no_weight(cluster_store):
    """A limit that leaves a domain no rows takes it out of every distribution."""
    fields = {
        "data__level": 1,
        "data__tokens_per_domain": 64,
        "data__tokens_level": 0,
    }
    for mixer in (
        {"mixer__name": "importance"},
        {"mixer__basis": "level0"},
        {"mixer__weights": "natural"},
        {},
    ):
        mixture = mixture_of(cluster_store, **fields, **mixer)
        sizes = mixture.sampler.sizes
        assert (sizes == 0).any()
        per_group = sizes.reshape(6, 5).sum(axis=1)
        np.testing.assert_array_equal(
            per_group, np.minimum(cluster_store.domains(0).num_rows, 2)
        )
        weights = mixture.domain_weights(mixture.init())
        assert weights.sum() == pytest.approx(1)
        assert not weights[sizes == 0].any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mixer__basis": "mmlu"}, "has no basis 'mmlu', it has none"),
        ({"mixer__basis": "level1", "data__level": 0}, "the same or a coarser one"),
        ({"mixer__basis": "../x"}, "a name has letters"),
        (
            {"mixer__name": "importance", "mixer__reference": "mmlu/law"},
            "has no basis 'mmlu'",
        ),
        (
            {"mixer__name": "importance", "mixer__basis": "level0"},
            "importance has constant weights",
        ),
        ({"data__tokens_per_domain": 99, "data__tokens_level": 1}, "must not be finer"),
        ({"data__tokens_per_domain": 99, "data__tokens_level": 7}, "levels 0 to 1"),
        ({"mixer__basis": "level0", "mixer__weights": "importance"}, "not of a basis"),
    ],
)
def test_bad_fields(cluster_store, fields, message):
    config = small_config(cluster_store, **({"data__level": 0} | fields))

    def check():
        validation.validate(config)
        Mixture(config, cluster_store)

    with pytest.raises(UserError, match=message):
        check()


def test_named_domains_have_no_histograms(byte_store):
    for fields in ({"mixer__name": "importance"}, {"mixer__basis": "mmlu"}):
        with pytest.raises(UserError, match="are not clusters"):
            mixture_of(byte_store, **fields)


def test_a_basis_of_another_store(store, byte_corpora, references):
    bases.write_basis(store, "kinds", StoredBasis(references, True, True))
    store.content_hash = "0" * 64
    with pytest.raises(UserError, match="was made for another store"):
        bases.find_basis("kinds", store, 1, 1.0, alive(store, 1))


def test_a_damaged_basis(store, references):
    path = bases.write_basis(store, "kinds", StoredBasis(references, True, True))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="make the basis again"):
        bases.find_basis("kinds", store, 1, 1.0, alive(store, 1))


def test_a_file_among_the_bases_that_is_none(store):
    bases.check_writable(store)
    np.savez(store.path / "bases" / "mine.npz", P=np.eye(30)[:2])
    with pytest.raises(UserError, match="is not a basis that"):
        bases.find_basis("mine", store, 1, 1.0, alive(store, 1))


def test_where_a_basis_cannot_be_stored(store, references):
    (store.path / "bases").touch()
    with pytest.raises(UserError, match="cannot write to"):
        bases.write_basis(store, "kinds", StoredBasis(references, True, True))


@pytest.mark.parametrize("name", ["a.npz", "a/b", "", "level0", "x" * 101])
def test_names_that_no_basis_can_have(store, name):
    with pytest.raises(UserError, match="a name has letters"):
        bases.basis_path(store, name)


def test_a_set_on_empty_domains_only(store, references):
    counts = references.counts.tolil()
    counts[2] = 0
    counts[2, 7] = 5
    lonely = Histograms(references.names, counts.tocsr())
    bases.write_basis(store, "lonely", StoredBasis(lonely, True, True))
    available = alive(store, 1)
    available[7] = False
    name = references.names[2]
    with pytest.raises(UserError, match=f"{name!r} lies on domains without"):
        bases.find_basis("lonely", store, 1, 0.0, available)
    smoothed = bases.find_basis("lonely", store, 1, 1.0, available)
    assert not dense(smoothed)[:, 7].any()


def test_names_that_are_taken(references):
    taken = Histograms(("natural", *references.names[1:]), references.counts)
    with pytest.raises(UserError, match="give --nonatural"):
        bases.check_names(StoredBasis(taken, True, True))
    bases.check_names(StoredBasis(taken, False, True))
