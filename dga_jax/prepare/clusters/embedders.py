"""Embedders by name."""

import json
import pathlib

from dga_jax.errors import UserError
from dga_jax.prepare.clusters import minilm, tfidf
from dga_jax.prepare.clusters.embedding import SPEC, Embedder

EMBEDDINGS = ("tfidf", "minilm")


def load_embedder(directory: pathlib.Path, model: str | None = None) -> Embedder:
    """The embedder that `Embedder.save` wrote to a directory.

    Args:
      directory: of a store, or of a job that makes one.
      model: where the weights of MiniLM are now; None: where they were.

    Raises:
      UserError: missing, damaged, or not the model that was saved.
    """
    path = directory / SPEC
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
        kind, digest = spec["kind"], spec["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read {path} ({error}); prepare the store again"
        ) from error
    if kind == tfidf.KIND:
        embedder = tfidf.TfidfEmbedder.load(directory)
    else:
        embedder = minilm.MiniLM.load(model or spec["directory"])
    if embedder.digest != digest:
        raise UserError(
            f"{path}: the clusters were made with another {kind} model; give the same"
            " one with --embedding_model"
        )
    return embedder
