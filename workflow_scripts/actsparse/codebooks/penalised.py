"""Binary k-means whose distance counts a lost active neuron more than a needless one, as in the artifact.

The distance of pattern m and centroid c is lost_weight |m and not c| + |c and not m|; a centroid is the
rounded weighted mean of its members, with any number of ones, and gets the number that is asked for at the
end. With that number fixed all along, the distance would rank centroids as coverage does.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.assign import assign
from actsparse.codebooks.packing import pack, pack_planes, unpack
from actsparse.codebooks.parallel import summed
from actsparse.codebooks.seeding import choose_seeds
from actsparse.codebooks.update import add_to_sums, no_sums, top_entries


@dataclass(frozen=True)
class Penalised:
    """steps: largest number of updates. lost_weight: of a lost active neuron, an integer from 1 to 255."""

    word = "penalised"
    shared_by_processes = True

    steps: int
    seed: int
    seeding: str = "random"
    seed_sparsity: float = 0.0
    lost_weight: int = 4

    def fit(
        self, patterns: Iterable[Tensor], width: int, clusters: int, ones: int
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids as `Coverage.fit` does; the objective is minus the summed distance."""
        stream = Stream(patterns)
        centroids = choose_seeds(stream, width, clusters, self.seeding, self.seed, self.seed_sparsity)
        objective: list[int] = []
        while True:
            sums = no_sums(clusters, width, centroids.device)
            sizes = torch.zeros(clusters, dtype=torch.int64, device=centroids.device)
            distance = torch.zeros((), dtype=torch.int64, device=centroids.device)
            both = _both_sides(centroids, width, 1)[:, 0]
            for block in stream:
                weighted = _both_sides(block.patterns, width, self.lost_weight)
                index, kept = assign(weighted, both, 2 * width)
                add_to_sums(sums, block.patterns, index)
                sizes += index.bincount(minlength=clusters)
                active = unpack(block.patterns, width).sum(1)
                distance += (self.lost_weight * active + (width - active) - kept).sum()
            objective.append(-int(summed(distance)))
            summed(sums)
            summed(sizes)
            if len(objective) > self.steps or (len(objective) > 1 and objective[-1] == objective[-2]):
                return top_entries(sums, ones), objective
            rounded = pack(self.lost_weight * sums > sizes[:, None] - sums)
            # A centroid without members stays where it is.
            centroids = torch.where(sizes[:, None] > 0, rounded, centroids)


def _both_sides(patterns: Tensor, width: int, weight: int) -> Tensor:
    """Return [weight m, not m] as bit planes: its product with [c, not c] falls as the distance grows."""
    masks = unpack(patterns, width)
    return pack_planes(torch.cat([masks.int() * weight, ~masks], 1), weight.bit_length())
