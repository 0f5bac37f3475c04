"""Codebooks that cover as many active neurons as their size allows: the corrected clustering of 2507.14179.

Given patterns m_i, find K binary centroids c_k with a fixed number of ones that maximise sum_i <m_i, c_a(i)>
by turns: assign each pattern to its best centroid; set each centroid to the most active neurons of its
members. Neither lowers the objective. Counts are integers, so that neither the number of threads nor the
order of the blocks changes the result.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.codebooks.assign import assign
from actsparse.codebooks.update import add_to_sums, no_sums, top_entries
from actsparse.packing import count_active, unpack

SEEDING_BYTES = 2**26  # of unpacked seeds while they are completed


@dataclass(frozen=True)
class Coverage:
    """steps: the largest number of updates. seed: of the random choice of the first centroids."""

    steps: int
    seed: int

    def fit(
        self, patterns: Iterable[Tensor], width: int, clusters: int, ones: int
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids to a stream of patterns.

        Args:
            patterns: blocks of packed patterns, uint8 (rows, ceil(width / 8)), the same each time it is
                iterated over. One block is held at a time.
            width: neurons in a pattern.
            clusters: K.
            ones: active neurons in each centroid.

        Returns:
            Packed centroids, uint8 (K, ceil(width / 8)), and the objective before each update and at the end.

        Raises:
            ValueError: when there are more clusters than patterns.
        """
        frequency, active = _totals(patterns, width)
        if clusters > len(active):
            raise ValueError(f"clusters: {clusters} is more than the {len(active)} patterns to fit")
        shuffled = torch.randperm(len(active), generator=torch.Generator().manual_seed(self.seed))
        chosen = shuffled[:clusters].to(active.device)
        centroids = _completed(_rows_at(patterns, chosen), width, ones, frequency)
        objective: list[int] = []
        while True:
            total, sums, sizes, covered = _assign_all(patterns, centroids, width)
            objective.append(total)
            if len(objective) > self.steps or (len(objective) > 1 and total == objective[-2]):
                return centroids, objective
            centroids = top_entries(sums, ones)
            empty = (sizes == 0).nonzero().flatten()
            if len(empty):
                worst = (active - covered).argsort(descending=True, stable=True)[: len(empty)]
                centroids[empty] = _completed(_rows_at(patterns, worst), width, ones, frequency)


def _totals(patterns: Iterable[Tensor], width: int) -> tuple[Tensor, Tensor]:
    """Return for how many patterns each neuron is active, int32 (D,), and how many neurons each has."""
    frequency, active = None, []
    for block in patterns:
        if frequency is None:
            frequency = no_sums(1, width, block.device)
        add_to_sums(frequency, block, torch.zeros(len(block), dtype=torch.int64, device=block.device))
        active.append(count_active(block))
    if frequency is None:
        raise ValueError("patterns: there are none to fit")
    return frequency[0], torch.cat(active)


def _assign_all(
    patterns: Iterable[Tensor], centroids: Tensor, width: int
) -> tuple[int, Tensor, Tensor, Tensor]:
    """Return the objective, the sums (K, D) and sizes (K,) of the clusters, and each pattern's overlap."""
    sums = no_sums(len(centroids), width, centroids.device)
    sizes = torch.zeros(len(centroids), dtype=torch.int64, device=centroids.device)
    overlaps = []
    for block in patterns:
        index, overlap = assign(block, centroids, width)
        add_to_sums(sums, block, index)
        sizes += index.bincount(minlength=len(centroids))
        overlaps.append(overlap)
    covered = torch.cat(overlaps)
    return int(covered.sum()), sums, sizes, covered


def _rows_at(patterns: Iterable[Tensor], positions: Tensor) -> Tensor:
    """Return the patterns at `positions` in the stream, uint8 (len(positions), B), in that order."""
    parts, sources, first = [], [], 0
    for block in patterns:
        here = ((positions >= first) & (positions < first + len(block))).nonzero().flatten()
        parts.append(block.index_select(0, positions[here] - first))
        sources.append(here)
        first += len(block)
    return torch.cat(parts)[torch.cat(sources).argsort()]


def _completed(patterns: Tensor, width: int, ones: int, frequency: Tensor) -> Tensor:
    """Return packed patterns with exactly `ones` active neurons.

    Neurons that are missing come from the most frequent inactive ones, and the least frequent active ones
    are left out; ties go to the first position.
    """
    rank = torch.empty_like(frequency)
    by_frequency = frequency.argsort(descending=True, stable=True)
    rank[by_frequency] = torch.arange(width - 1, -1, -1, dtype=rank.dtype, device=rank.device)
    rows = max(1, SEEDING_BYTES // (4 * width))
    return torch.cat(
        [top_entries(unpack(some, width, torch.int32) * width + rank, ones) for some in patterns.split(rows)]
    )
