"""The light embedder."""

import warnings

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import normalize

from dga_jax.data.sample import SAMPLE
from dga_jax.errors import UserError
from dga_jax.prepare.clusters import tfidf
from dga_jax.prepare.clusters.tfidf import TfidfEmbedder
from dga_jax.prepare.sources import Shard, read_documents


@pytest.fixture(scope="module")
def texts():
    found = []
    for path in sorted((SAMPLE / "generic").glob("*.xz")):
        documents = [document.text for document in read_documents(Shard.of(path))]
        found += documents[:: len(documents) // 30][:30]
    return found


@pytest.fixture(scope="module")
def embedder(texts):
    return TfidfEmbedder.fit(texts)


def test_is_weighted_and_projected_as_scikit_learn_does(texts, embedder):
    counts = tfidf._counts(texts)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    expected = normalize(weighted @ embedder._components.T)
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), embedder.dim) == (240, tfidf.DIM)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_texts_do_not_depend_on_each_other(texts, embedder):
    together = embedder.embed(texts[:20])
    alone = np.concatenate([embedder.embed([text]) for text in texts[:20]])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_texts_of_a_kind_are_near(texts, embedder):
    vectors = embedder.embed(texts)
    kinds = np.repeat(np.arange(8), 30)
    products = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert (kinds[products.argmax(axis=1)] == kinds).mean() > 0.95


def test_a_text_without_words_is_zero(embedder):
    assert embedder.embed([]).shape == (0, embedder.dim)
    assert not embedder.embed(["", "! ? 7"]).any()


def test_saved_and_loaded(tmp_path, texts, embedder):
    names = embedder.save(tmp_path)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    loaded = TfidfEmbedder.load(tmp_path)
    assert loaded.digest == embedder.digest
    np.testing.assert_array_equal(loaded.embed(texts), embedder.embed(texts))
    assert TfidfEmbedder.fit(texts[:200]).digest != embedder.digest


def test_of_few_documents():
    embedder = TfidfEmbedder.fit(["one two three", "two three four", "five"])
    assert embedder.dim == 3
    assert np.isfinite(embedder.embed(["two", "six"])).all()


@pytest.mark.parametrize("text", ["", "! ? 7", "one", "one two three"])
@pytest.mark.parametrize("count", [1, 2, 300])
def test_texts_that_nothing_tells_apart(text, count):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder = TfidfEmbedder.fit([text] * count)
        vectors = embedder.embed([text, text])
    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_a_damaged_file(tmp_path, embedder):
    embedder.save(tmp_path)
    path = tmp_path / "embedder.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"embedder\.npz"):
        TfidfEmbedder.load(tmp_path)
