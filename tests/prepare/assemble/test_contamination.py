"""N-grams that evaluation documents share with a corpus."""

import pathlib
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steps import corpus_of

from dga_jax.prepare.assemble import contamination
from dga_jax.prepare.assemble.engine import Local
from dga_jax.prepare.assemble.folder import Folder


def find(directory, generic, evaluation, ngram):
    """What was found, and the places of the documents that share something."""
    directory = pathlib.Path(tempfile.mkdtemp(dir=directory))
    corpus = corpus_of(directory, generic=generic)
    found = contamination.find_contamination(
        corpus.shards,
        corpus_of(directory, evaluation=evaluation),
        ngram,
        Local(),
        Folder.of(directory / "found"),
    )
    return found, found.places.of(corpus.shards[0]).tolist()


words = st.lists(st.sampled_from("abc"), min_size=1, max_size=14).map(" ".join)


@given(st.lists(words, min_size=1), st.lists(words, min_size=1), st.integers(3, 8))
def test_finds_what_a_search_finds(tmp_path_factory, generic, evaluation, ngram):
    directory = tmp_path_factory.mktemp("text")
    found, places = find(directory, generic, evaluation, ngram)

    def grams(text):
        split = text.split()
        return {tuple(split[i : i + ngram]) for i in range(len(split) - ngram + 1)}

    of_eval = [grams(text) for text in evaluation]
    of_generic = [grams(text) for text in generic]
    assert found.short == sum(not own for own in of_eval)
    assert found.evaluated == len(evaluation) - found.short
    shared = sum(any(own & other for other in of_generic) for own in of_eval)
    assert found.shared == shared
    assert places == [
        i for i, own in enumerate(of_generic) if any(own & other for other in of_eval)
    ]


def test_case_and_punctuation_do_not_matter(tmp_path):
    generic = ["Nothing.", "He said: “It was the best of times; it was the WORST.”"]
    evaluation = ["it was the best of times, it was the worst", "short"]
    found, places = find(tmp_path, generic, evaluation, 10)
    assert places == [1]
    assert (found.shared, found.evaluated, found.short) == (1, 1, 1)
    line = found.describe(dropped=True)
    assert "1 of 1 evaluation documents (1 shorter ones" in line
    assert "1 of its 2 documents are dropped" in line


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_are_the_documents(tmp_path, monkeypatch, batch):
    monkeypatch.setattr("dga_jax.prepare.corpus._BATCH_DOCUMENTS", batch)
    corpus = corpus_of(tmp_path, g=["a", "b", "c", "d"])
    batches = [[document.text for document in batch] for batch in corpus.batches()]
    assert [text for own in batches for text in own] == ["a", "b", "c", "d"]
    assert max(map(len, batches)) == batch
