"""Baselines: k-means of libraries on the patterns as numbers, its means cut to their largest entries."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.assign import assign
from actsparse.codebooks.packing import unpack
from actsparse.codebooks.update import top_entries


@dataclass(frozen=True)
class KMeans:
    """scikit-learn's KMeans. All patterns are in memory, 4 bytes a neuron."""

    word = "kmeans"
    options = ("replace_below",)
    on_the_cpu = True

    steps: int
    seed: int

    def fit(
        self, patterns: Iterable[Tensor], width: int, clusters: int, ones: int
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids as `Coverage.fit` does; the objective is that of the result alone.

        Raises ValueError when there are more clusters than patterns, or the library is not installed.
        """
        packed = torch.cat([block.patterns for block in Stream(patterns)])
        if clusters > len(packed):
            raise ValueError(f"clusters: {clusters} is more than the {len(packed)} patterns to fit")
        means = self._means(unpack(packed, width, torch.float32), clusters)
        centroids = top_entries(torch.as_tensor(means), ones)
        return centroids, [int(assign(packed, centroids, width)[1].sum())]

    def _means(self, patterns: Tensor, clusters: int):
        from sklearn.cluster import KMeans as Library

        return self._sklearn(Library, patterns, clusters)

    def _sklearn(self, library: Callable, patterns: Tensor, clusters: int):
        fitted = library(clusters, n_init=1, max_iter=self.steps, random_state=self.seed)
        return fitted.fit(patterns.numpy()).cluster_centers_


@dataclass(frozen=True)
class MiniBatchKMeans(KMeans):
    """scikit-learn's MiniBatchKMeans."""

    word = "mini_batch_kmeans"

    def _means(self, patterns: Tensor, clusters: int):
        from sklearn.cluster import MiniBatchKMeans as Library

        return self._sklearn(Library, patterns, clusters)


@dataclass(frozen=True)
class FaissKMeans(KMeans):
    """faiss's Kmeans; needs the extra "faiss"."""

    word = "faiss"

    def _means(self, patterns: Tensor, clusters: int):
        try:
            import faiss
        except ImportError:
            raise ValueError(
                "algorithm: 'faiss' needs the package faiss-cpu, which is not installed"
            ) from None
        limits = {"max_points_per_centroid": len(patterns), "min_points_per_centroid": 1}
        kmeans = faiss.Kmeans(patterns.shape[1], clusters, niter=self.steps, seed=self.seed, **limits)
        kmeans.train(patterns.numpy())
        return kmeans.centroids
