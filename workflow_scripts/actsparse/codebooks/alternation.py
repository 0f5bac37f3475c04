"""The alternation that coverage codebooks share: assign each pattern, then rebuild each centroid.

Everything is counted in integers, so that neither threads, nor processes, nor blocks change the result. With
several processes (see `parallel`) each has a stream of its share of the patterns.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from actsparse.codebooks.assign import assign
from actsparse.codebooks.packing import count_active, unpack
from actsparse.codebooks.parallel import gathered, start_of_share, summed
from actsparse.codebooks.update import add_to_sums, no_sums, top_entries

SEEDING_BYTES = 2**26  # of unpacked seeds while they are completed


class Block(NamedTuple):
    """Some patterns: as the assignment and as the update see them (the same, unless they are weighted).

    patterns: packed, uint8 (n, ceil(D / 8)).
    scores, weights: the same, or bit planes (n, bits, ceil(D / 8)).
    """

    patterns: Tensor
    scores: Tensor
    weights: Tensor


Assignment = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
Seeding = Callable[["Stream", int, int, int], Tensor]


class Stream:
    """Blocks of patterns, plain or weighted, that can be iterated over as often as needed."""

    def __init__(self, blocks: Iterable[Tensor | Block]) -> None:
        self._blocks = blocks

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks:
            yield block if isinstance(block, Block) else Block(block, block, block)


def alternate(
    stream: Stream,
    width: int,
    ones: int,
    steps: int,
    seeds: Tensor,
    assignment: Assignment = assign,
    held_out: Stream | None = None,
) -> tuple[Tensor, list[int]]:
    """Improve centroids by turns until the objective stays the same, or for `steps` updates.

    Args:
        stream: the patterns.
        width: neurons in a pattern.
        ones: active neurons in each centroid.
        seeds: patterns to start from, packed, uint8 (K, ceil(width / 8)).
        assignment: `assign`, or a function like it.
        held_out: other patterns; the first update that does not raise their objective is undone and the last.

    Returns:
        Packed centroids, uint8 (K, ceil(width / 8)), and the objective (shared active neurons, or their
        weight as the assignment sees it) before each update and at the end.
    """
    frequency, totals = neuron_totals(stream, width)
    centroids = before = completed(seeds, width, ones, frequency)
    objective: list[int] = []
    validated: list[int] = []
    while True:
        if held_out is not None:
            validated.append(objective_of(held_out, centroids, width))
            if len(validated) > 1 and validated[-1] <= validated[-2]:
                return before, objective
        before = centroids.clone()
        sums = no_sums(len(centroids), width, centroids.device)
        sizes, covered = assign_all(stream, centroids, width, assignment, sums)
        objective.append(int(summed(covered.sum())))
        if len(objective) > steps or (len(objective) > 1 and objective[-1] == objective[-2]):
            return centroids, objective
        centroids = top_entries(summed(sums), ones)
        empty = (sizes == 0).nonzero().flatten()
        if len(empty):
            worst = worst_covered(stream, totals - covered, len(empty))
            centroids[empty] = completed(worst, width, ones, frequency)


def assign_all(
    stream: Stream,
    centroids: Tensor,
    width: int,
    assignment: Assignment = assign,
    sums: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Assign every pattern to one of the packed centroids (K, B).

    Returns:
        How many patterns of all processes chose each, int64 (K,), and what each own pattern's one covers,
        int64 (n,). Each own pattern's weights are added to its centroid's row of `sums`, int32 (K, width).
    """
    sizes = torch.zeros(len(centroids), dtype=torch.int64, device=centroids.device)
    overlaps = []
    for block in stream:
        index, overlap = assignment(block.scores, centroids, width)
        if sums is not None:
            add_to_sums(sums, block.weights, index)
        sizes += index.bincount(minlength=len(centroids))
        overlaps.append(overlap)
    return summed(sizes), torch.cat(overlaps)


def worst_covered(stream: Stream, uncovered: Tensor, count: int) -> Tensor:
    """Return the `count` patterns of all processes, uint8 (count, B), of which most is left uncovered.

    `uncovered` is that of own patterns, int64 (n,); the first among equals comes first.
    """
    start, _ = start_of_share(len(uncovered), uncovered.device)
    worst = gathered(uncovered).argsort(descending=True, stable=True)[:count]
    return patterns_at(stream, worst, start)


def objective_of(stream: Stream, centroids: Tensor, width: int) -> int:
    """Return what packed centroids (K, B) cover of all patterns, as the assignment sees it."""
    covered = torch.zeros((), dtype=torch.int64, device=centroids.device)
    for block in stream:
        covered += assign(block.scores, centroids, width)[1].sum()
    return int(summed(covered))


def neuron_totals(stream: Stream, width: int) -> tuple[Tensor, Tensor]:
    """Return each neuron's weight in the update of all patterns, int32 (D,), and own patterns' scores."""
    frequency, totals = None, []
    for block in stream:
        if frequency is None:
            frequency = no_sums(1, width, block.patterns.device)
        zeros = torch.zeros(len(block.patterns), dtype=torch.int64, device=block.patterns.device)
        add_to_sums(frequency, block.weights, zeros)
        totals.append(_row_totals(block.scores))
    if frequency is None:
        raise ValueError("patterns: there are none to fit")
    return summed(frequency[0]), torch.cat(totals)


def patterns_at(stream: Stream, positions: Tensor, first: int) -> Tensor:
    """Return the patterns at `positions` among all, uint8 (len(positions), B), in that order.

    `first` is the position of the first one in this process's stream.
    """
    found = None
    for patterns, _, _ in stream:
        if found is None:
            found = patterns.new_zeros(len(positions), patterns.shape[1])
        here = ((positions >= first) & (positions < first + len(patterns))).nonzero().flatten()
        found[here] = patterns.index_select(0, positions[here] - first)
        first += len(patterns)
    return summed(found)


def completed(patterns: Tensor, width: int, ones: int, frequency: Tensor) -> Tensor:
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


def _row_totals(scores: Tensor) -> Tensor:
    if scores.ndim == 2:
        return count_active(scores)
    total = count_active(scores[:, 0])
    for plane in scores.unbind(1)[1:]:
        total = 2 * total + count_active(plane)
    return total
