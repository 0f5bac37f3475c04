"""Spherical k-means whose means are shrunk, each cut to a binary centroid at the end.

A pattern belongs to the mean it has the largest cosine with (Dhillon and Modha 2001), and a mean counts
`prior` average patterns beside its members. A mean still knows how often a neuron is active where a binary
centroid only knows whether it is among the most active ones, and the average patterns keep few members from
being learned by heart: what the centroids cover of patterns they have not seen is more than `coverage`
finds, which covers more of those it has.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.codebooks.alternation import (
    Stream,
    assign_all,
    neuron_totals,
    objective_of,
    worst_covered,
)
from actsparse.codebooks.assign import EXACT_SUMS, assign_dense
from actsparse.codebooks.packing import count_active, unpack
from actsparse.codebooks.parallel import gathered, summed
from actsparse.codebooks.seeding import choose_seeds
from actsparse.codebooks.update import no_sums, top_entries

LEVELS = 255  # of the largest entry of all means, when their directions are rounded
ROUNDING_BYTES = 2**26  # of means at a time in float64


@dataclass(frozen=True)
class Spherical:
    """steps: the largest number of updates. seed, seeding, seed_sparsity: of `choose_seeds`.

    prior: how many average patterns a mean counts beside its members. update_power, assign_power: p of the
    weights abs(activation)^p in the means and in the cosines, 0 for none. The stream has weighted `Block`s.
    """

    word = "spherical"
    options = ("replace_below",)
    shared_by_processes = True
    weighs = True

    steps: int
    seed: int
    seeding: str = "random"
    seed_sparsity: float = 0.0
    prior: int = 8
    update_power: int = 1
    assign_power: int = 1

    def fit(
        self, patterns: Iterable[Tensor], width: int, clusters: int, ones: int
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids as `Coverage.fit` does; the objective is what they would cover if cut there.

        It may fall. A mean without members becomes the pattern that the others come least near to.
        """
        stream = Stream(patterns)
        seeds = choose_seeds(stream, width, clusters, self.seeding, self.seed, self.seed_sparsity)
        frequency, totals = neuron_totals(stream, width)
        everyone = gathered(totals)
        levels = min(LEVELS, EXACT_SUMS // max(1, int(everyone.max())))
        shrinkage = (self.prior * frequency.long() // len(everyone)).int()
        active = summed(sum(count_active(block.patterns).sum() for block in stream))
        typical = max(1, int(frequency.sum()) // max(1, int(active)))  # weight of an active neuron

        means = typical * unpack(seeds, width, torch.int32)
        objective: list[int] = []
        while True:
            means += shrinkage
            centroids = top_entries(means, ones)
            objective.append(objective_of(stream, centroids, width))
            if len(objective) > self.steps or (len(objective) > 1 and objective[-1] == objective[-2]):
                return centroids, objective
            means, directions = no_sums(clusters, width, means.device), _directions(means, levels)
            sizes, near = assign_all(stream, directions, width, assign_dense, means)
            summed(means)
            empty = (sizes == 0).nonzero().flatten()
            if len(empty):
                worst = worst_covered(stream, levels * totals - near, len(empty))
                means[empty] = typical * unpack(worst, width, torch.int32)


def _directions(means: Tensor, levels: int) -> Tensor:
    """Return means (K, D) at one length, as integers up to `levels`, int16."""
    parts = means.split(max(1, ROUNDING_BYTES // (8 * means.shape[1])))
    lengths = torch.cat([part.double().norm(dim=1) for part in parts]).clamp_(min=1)
    scales = levels / (means.amax(1) / lengths).max().clamp(min=1e-9) / lengths
    rows = scales.split(len(parts[0]))
    return torch.cat(
        [(part * scale[:, None]).round_().short() for part, scale in zip(parts, rows, strict=True)]
    )
