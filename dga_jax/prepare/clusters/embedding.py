"""What every embedding of texts offers."""

import abc
import pathlib
from collections.abc import Sequence

import numpy as np

SPEC = "embedder.json"  # names the kind of embedder and its digest


class Embedder(abc.ABC):
    """Maps texts to vectors.

    Attributes:
      kind: how what `save` writes names this embedder, "minilm" or "tfidf".
      dim: width of a vector, D.
      digest: hex SHA-256 of all that decides the vector of a text.
    """

    kind: str
    dim: int
    digest: str

    @abc.abstractmethod
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of unit norm, float32 [n, D], in the order of the texts.

        The vector of a text does not depend on the other texts. It may be zero where
        the embedder knows nothing that the text holds.
        """

    @abc.abstractmethod
    def save(self, directory: pathlib.Path) -> list[str]:
        """Writes what makes the same embedder again; returns the names of the files."""
