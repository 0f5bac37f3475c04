"""The arithmetic of the artifact of arXiv 2507.14179, restated, so that its freezing can be shown.

Centroids in order each take the rows / K remaining patterns of a chunk that overlap with them most; one
becomes the entries strictly above a quantile of its old self, weighted by all it has seen, plus their sum.
The old self soon outweighs any members. Each chunk counts as one iteration. The artifact also averages and
thresholds the centroids of its processes; with one process that changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.assign import assign
from actsparse.codebooks.packing import pack, unpack
from actsparse.codebooks.seeding import choose_seeds

CHUNK_ROWS = 2**13


@dataclass(frozen=True)
class AsPublished:
    """steps: passes over the patterns. seed: of the choice of the first centroids."""

    word = "as_published"
    options = ("replace_below",)

    steps: int
    seed: int

    def fit(
        self, patterns: Iterable[Tensor], width: int, clusters: int, ones: int
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids as `Coverage.fit` does; ties at the quantile leave some with fewer than `ones`.

        The objective is that of the nearest centroids, as at evaluation, before each pass and at the end.
        """
        stream = Stream(patterns)
        seeds = choose_seeds(stream, width, clusters, "random", self.seed)
        centroids = unpack(seeds, width, torch.float32)
        iteration, objective = 0, [_covered(stream, centroids, width)]
        for _ in range(self.steps):
            for block in stream:
                for some in block.patterns.split(max(CHUNK_ROWS, clusters)):
                    if len(some) >= clusters:  # a last chunk that is shorter gives nobody a member
                        iteration += 1
                        chunk = unpack(some, width, torch.float32)
                        centroids = _step(chunk, centroids, iteration, 1 - ones / width)
            objective.append(_covered(stream, centroids, width))
        return pack(centroids.bool()), objective


def _step(chunk: Tensor, centroids: Tensor, iteration: int, sparsity: float) -> Tensor:
    capacity = len(chunk) // len(centroids)
    overlaps = chunk @ centroids.T
    blend = centroids * (iteration * capacity)
    for k, column in enumerate(overlaps.T):
        members = column.topk(capacity).indices
        overlaps[members] = -torch.inf
        blend[k] += chunk[members].sum(0)
    return (blend > blend.quantile(sparsity, dim=1, keepdim=True)).float()


def _covered(stream: Stream, centroids: Tensor, width: int) -> int:
    packed = pack(centroids.bool())
    return sum(int(assign(block.patterns, packed, width)[1].sum()) for block in stream)
