"""Vectors of real documents."""

import pytest


@pytest.fixture(scope="session")
def vectors():
    """Of 120 documents of each text of the sample, embedded: float32 [960, d]."""
    from dga_jax.clusters.tfidf import TfidfEmbedder
    from dga_jax.data.sample import SAMPLE
    from dga_jax.data.sources import read_documents

    texts = []
    for path in sorted((SAMPLE / "generic").glob("*.xz")):
        documents = [document.text[:3000] for document in read_documents(path)]
        texts += documents[:: len(documents) // 120][:120]
    return TfidfEmbedder.fit(texts).embed(texts)
