"""Penalised binary k-means as in the artifact of arXiv 2507.14179 (`penalized_brbkmeans.py`).

There a needless neuron of the centroid costs three times a lost one: the distance of pattern m and centroid
c is |m and not c| + 3 |c and not m|, the other way round than `penalised`. A centroid is the rounded mean of
its members, one half being rounded to zero, and keeps any number of ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.assign import assign
from actsparse.codebooks.packing import count_active, pack, pack_planes, unpack
from actsparse.codebooks.seeding import choose_seeds
from actsparse.codebooks.update import add_to_sums, no_sums

NEEDLESS = 3


@dataclass(frozen=True)
class PenalisedAsPublished:
    """steps: largest number of updates. seed: of the choice of the first centroids."""

    word = "penalised_as_published"

    steps: int
    seed: int

    def fit(
        self, patterns: Iterable[Tensor], width: int, clusters: int, ones: int
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids as `Coverage.fit` does, but for `ones`; the objective is minus the summed distance.

        It ends when no pattern changes its centroid.
        """
        stream = Stream(patterns)
        centroids = choose_seeds(stream, width, clusters, "random", self.seed)
        objective: list[int] = []
        before: Tensor | None = None
        while True:
            sums, distance, found = no_sums(clusters, width, centroids.device), 0, []
            both = pack(torch.cat([unpack(centroids, width), ~unpack(centroids, width)], 1))
            for block in stream:
                masks = unpack(block.patterns, width)
                # A match of two inactive neurons is worth what a needless one costs: see `Penalised`.
                matches = pack_planes(torch.cat([masks.int(), ~masks * NEEDLESS], 1), NEEDLESS.bit_length())
                index, kept = assign(matches, both, 2 * width)
                active = count_active(block.patterns)
                distance += int((active + NEEDLESS * (width - active) - kept).sum())
                add_to_sums(sums, block.patterns, index)
                found.append(index)
            assignments = torch.cat(found)
            objective.append(-distance)
            if len(objective) > self.steps or (before is not None and torch.equal(assignments, before)):
                return centroids, objective
            before = assignments
            sizes = assignments.bincount(minlength=clusters)[:, None]
            centroids = torch.where(sizes > 0, pack(2 * sums > sizes), centroids)
