"""The arithmetic of the artifact of arXiv 2507.14179 (`clustering/activation_aware_clustering.py`), restated.

Patterns come in chunks, each that of one sequence in all layers. A centroid's distance from a pattern is the
number of active neurons that it leaves out. Centroids in order each take the rows / K nearest of the chunk's
remaining patterns, so that the quietest go first, whatever they look like. A centroid becomes the entries
strictly above a quantile of its old self, weighted by pass x chunk x rows / K, and the mean of its members.
The old self soon outweighs any members. The artifact also averages and thresholds the centroids of its
processes; with one process that changes nothing.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.assign import assign
from actsparse.codebooks.chunks import Chunk
from actsparse.codebooks.packing import count_active, pack, unpack

SEED_SPARSITY = 0.4
SEED_REACH = 100  # patterns behind a drawn one that may take its place
COLUMNS = 2**8  # centroids of which distances are held at a time
ROWS = 2**13  # patterns that are unpacked at a time


@dataclass(frozen=True)
class AsPublished:
    """steps: the largest number of passes over the patterns. seed: of the choice of the first centroids.

    rows: what chunks hold, see `Chunks`; the artifact's are raw.
    """

    word = "as_published"
    options = ("replace_below",)
    in_chunks = True

    steps: int
    seed: int
    rows: str = "binary"

    def fit(
        self,
        patterns: Iterable[Tensor],
        width: int,
        clusters: int,
        ones: int,
        chunks: Iterable[Chunk] | None = None,
        sparsity: float | None = None,
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids as `Coverage.fit` does; ties at the quantile leave some with fewer than `ones`.

        Args:
            patterns, width, clusters, ones: those of `Coverage.fit`.
            chunks: the same patterns as they were collected; the blocks of `patterns` by default.
            sparsity: which quantile of a centroid is cut; 1 - ones / width by default.

        Returns:
            Packed centroids, and their objective as at evaluation, that of the nearest ones, before each pass
            and at the end. Passes end when no pattern changes its centroid.
        """
        chunks = [Chunk(block, block) for block in patterns] if chunks is None else chunks
        sparsity = 1 - ones / width if sparsity is None else sparsity
        centroids = unpack(first_centroids(chunks, width, clusters, self.seed), width, torch.float32)
        capacity = len(next(iter(chunks)).patterns) // clusters
        objective, before = [_covered(patterns, centroids, width)], None
        for iteration in range(1, self.steps + 1):
            found = []
            for number, chunk in enumerate(chunks, 1):
                found.append(assign_in_order(chunk.active, centroids, width, capacity))
                weight = iteration * number * capacity
                centroids = _updated(chunk, found[-1], centroids, weight, capacity, sparsity)
            objective.append(_covered(patterns, centroids, width))
            assignments = torch.cat(found)
            if before is not None and torch.equal(assignments, before):
                break
            before = assignments
        return pack(centroids.bool()), objective


def first_centroids(chunks: Iterable[Chunk], width: int, clusters: int, seed: int) -> Tensor:
    """Return the patterns that centroids start from, packed, uint8 (clusters, ceil(width / 8)).

    Positions are drawn among those of all chunks. A pattern of less than 40 % sparsity is left out for the
    next one of its chunk that is not, at most 100 positions further on.

    Raises ValueError when there are fewer patterns than clusters, or none near a drawn one that is sparse
    enough.
    """
    active = [count_active(chunk.patterns) for chunk in chunks]
    total = sum(map(len, active))
    if clusters > total:
        raise ValueError(f"clusters: {clusters} is more than the {total} patterns to fit")
    drawn = sorted(random.Random(seed).sample(range(total), clusters))
    found, start = [], 0
    for (chunk, *_), counts in zip(chunks, active, strict=True):
        sparse = (width - counts).double() / width >= SEED_SPARSITY
        for position in [position - start for position in drawn if start <= position < start + len(chunk)]:
            near = sparse[position : position + SEED_REACH + 1].nonzero().flatten()
            if len(near):
                found.append(chunk[position + near[0]])
        start += len(chunk)
    if len(found) < clusters:
        raise ValueError(
            f"clusters: {len(found)} of {clusters} find a pattern of {SEED_SPARSITY} sparsity to start from"
        )
    return torch.stack(found)


def assign_in_order(active: Tensor, centroids: Tensor, width: int, capacity: int) -> Tensor:
    """Return the centroid, int64 (n,), of each pattern, packed active neurons (n, B); -1 of those left over.

    Centroids, float32 (K, width), take `capacity` patterns each, one centroid after the other, those of which
    they leave the fewest active neurons out. Among equals the first goes first, in the order in which the
    centroid before has left them: by their distance from it.
    """
    index = torch.full((len(active),), -1, dtype=torch.int64, device=active.device)
    left, counts = torch.arange(len(active), device=active.device), count_active(active)
    for first in range(0, len(centroids), COLUMNS):
        some = centroids[first : first + COLUMNS]
        # Whole numbers below 2^24, which float32 holds exactly.
        overlap = torch.cat([unpack(rows, width, torch.float32) @ some.T for rows in active.split(ROWS)])
        for column in range(len(some)):
            distances = counts[left] - overlap[left, column]
            order = distances.argsort(stable=True)
            index[left[order[:capacity]]] = first + column
            left = left[order[capacity:]]
    return index


def _updated(
    chunk: Chunk, index: Tensor, centroids: Tensor, weight: int, capacity: int, sparsity: float
) -> Tensor:
    """Return the next centroids; one without members stays as it is."""
    updated, width = centroids.clone(), centroids.shape[1]
    for k in index.unique().tolist():
        if k >= 0:
            members = chunk.patterns[index == k] if chunk.values is None else chunk.values[index == k]
            mean = (unpack(members, width) if chunk.values is None else members).float().mean(0)
            blend = (centroids[k] * weight + mean * capacity) / (weight + capacity)
            updated[k] = blend > blend.quantile(sparsity)
    return updated


def _covered(patterns: Iterable[Tensor], centroids: Tensor, width: int) -> int:
    packed = pack(centroids.bool())
    return sum(int(assign(block.patterns, packed, width)[1].sum()) for block in Stream(patterns))
