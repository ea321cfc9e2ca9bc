"""Counts documents by cluster."""

from collections.abc import Iterable

import numpy as np
from scipy import sparse

from dga_jax.data.histograms import Histograms
from dga_jax.prepare.clusters.embedding import Embedder
from dga_jax.prepare.clusters.tree import Tree


def count_documents(
    embedder: Embedder,
    tree: Tree,
    batches: Iterable[list[tuple[str, str]]],
    allowed: np.ndarray,
) -> Histograms:
    """Counts documents in the finest clusters of a tree.

    Args:
      embedder: the one that the tree was made with.
      tree: of k finest clusters.
      batches: lists of (name of a set, text).
      allowed: bool [k]; documents go to the nearest of these.

    Returns:
      One histogram a set, sorted by name.
    """
    totals: dict[str, np.ndarray] = {}
    for batch in batches:
        names = np.array([name for name, _ in batch])
        clusters = tree.assign(embedder.embed([text for _, text in batch]), allowed)
        for name in np.unique(names).tolist():
            earlier = totals.get(name, np.zeros(0, np.int64))
            totals[name] = np.append(earlier, clusters[names == name])
    names = tuple(sorted(totals))
    rows = np.repeat(np.arange(len(names)), [len(totals[name]) for name in names])
    columns = np.concatenate([np.zeros(0, np.int64), *(totals[n] for n in names)])
    ones = np.ones(len(rows))
    shape = (len(names), len(allowed))
    return Histograms(names, sparse.coo_array((ones, (rows, columns)), shape).tocsr())
