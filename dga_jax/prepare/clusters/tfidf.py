"""The light embedder: hashed TF-IDF and a truncated SVD (latent semantic analysis)."""

import hashlib
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from dga_jax.files import read_arrays
from dga_jax.prepare.clusters.embedding import SPEC, Embedder

KIND = "tfidf"
DIM = 128
FEATURES = 1 << 15
# What a document is about shows at its beginning; the rest would only take time.
CHARACTERS = 4096
_WEIGHTS = "embedder.npz"


class TfidfEmbedder(Embedder):
    """Words, hashed to `FEATURES` counts, weighted and projected; unit norm.

    Salton and Buckley (1988) for the weights, (1 + log tf) · idf; Deerwester et al.
    (1990) for the projection on the leading right singular vectors.

    Args:
      idf: float32 [F], inverse document frequencies.
      components: float32 [dim, F], leading right singular vectors.
    """

    kind = KIND

    def __init__(self, idf: np.ndarray, components: np.ndarray):
        self._idf, self._components = idf, components
        self._projection = np.ascontiguousarray((components * idf).T)
        self.dim = len(components)
        digest = hashlib.sha256(f"{KIND} {CHARACTERS}".encode())
        for array in (idf, components):
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
        self.digest = digest.hexdigest()

    @classmethod
    def fit(cls, texts: Sequence[str], seed: int = 0) -> "TfidfEmbedder":
        """Learns document frequencies and projection from a sample of the corpus.

        Args:
          texts: n ≥ 1 documents; min(`DIM`, n) dimensions come out of them.
          seed: of the randomised SVD (Halko, Martinsson and Tropp 2011).
        """
        counts_nxf = _counts(texts)
        weights = TfidfTransformer(sublinear_tf=True)
        weighted_nxf = weights.fit_transform(counts_nxf)
        svd = TruncatedSVD(min(DIM, len(texts)), n_iter=3, random_state=seed)
        # It divides by the variance of all, which is none where no word tells texts
        # apart; of what comes of that, nothing is used.
        with np.errstate(invalid="ignore", divide="ignore"):
            svd.fit(weighted_nxf)
        return cls(weights.idf_.astype(np.float32), svd.components_.astype(np.float32))

    @classmethod
    def load(cls, directory: pathlib.Path) -> "TfidfEmbedder":
        """Reads what `save` wrote.

        Raises:
          UserError: the file is missing or damaged.
        """
        arrays = read_arrays(directory / _WEIGHTS, "prepare the store again")
        return cls(arrays["idf"], arrays["components"])

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See the base class; a text without words is the zero vector."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        counts_nxf = _counts(texts)
        counts_nxf.data = 1 + np.log(counts_nxf.data)
        vectors_nxd = counts_nxf @ self._projection
        norms = np.linalg.norm(vectors_nxd, axis=1, keepdims=True)
        return (vectors_nxd / np.where(norms > 0, norms, 1)).astype(np.float32)

    def save(self, directory: pathlib.Path) -> list[str]:
        """See the base class."""
        np.savez(directory / _WEIGHTS, idf=self._idf, components=self._components)
        spec = json.dumps({"kind": KIND, "digest": self.digest})
        (directory / SPEC).write_text(spec, encoding="utf-8")
        return [_WEIGHTS, SPEC]


def _counts(texts: Sequence[str]) -> sparse.csr_matrix:
    """Counts of hashed words of two letters or more, sparse float32 [n, F]."""
    vectorizer = HashingVectorizer(
        n_features=FEATURES, alternate_sign=False, norm=None, dtype=np.float32
    )
    return vectorizer.transform([text[:CHARACTERS] for text in texts])
