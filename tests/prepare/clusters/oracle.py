"""k-means by another library."""

import faiss
import numpy as np


def inertia_of_faiss(points, k, seed):
    oracle = faiss.Kmeans(
        points.shape[1],
        k,
        niter=25,
        nredo=1,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=1 << 30,
    )
    oracle.train(points)
    return oracle.index.search(points, 1)[0].astype(np.float64).sum()
