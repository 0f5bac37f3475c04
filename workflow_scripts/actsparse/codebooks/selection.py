"""What is done to centroids once they are fitted: rare ones are replaced, and their recall is counted."""

import torch
from torch import Tensor

from actsparse.codebooks.alternation import (
    Stream,
    assign_all,
    completed,
    neuron_totals,
    objective_of,
    worst_covered,
)
from actsparse.codebooks.assign import assign
from actsparse.codebooks.packing import count_active
from actsparse.codebooks.parallel import summed


def replace_rare(
    stream: Stream, centroids: Tensor, width: int, ones: int, least: float
) -> tuple[Tensor, int]:
    """Replace centroids that few patterns choose by the patterns that are covered worst.

    Our reading of the centroid selection of arXiv 2507.14179, whose paper gives no rule: a centroid stays if
    at least `least` times its even share of the patterns (all over K) choose it, the first among equals. A
    duplicate thus always goes. The pattern with most left uncovered takes the place of the first one that
    goes, completed to `ones` active neurons like a seed, and so on.

    Args:
        stream: the patterns.
        centroids: packed, uint8 (K, ceil(width / 8)).
        least: from 0, which replaces none, to 1.

    Returns:
        The packed centroids, and what they cover: it may be less than before.
    """
    frequency, totals = neuron_totals(stream, width)
    sizes, covered = assign_all(stream, centroids, width)
    rare = (sizes * len(centroids) < least * sizes.sum()).nonzero().flatten()
    if len(rare):
        worst = worst_covered(stream, totals - covered, len(rare))
        centroids = centroids.clone()
        centroids[rare] = completed(worst, width, ones, frequency)
    return centroids, objective_of(stream, centroids, width)


def covered_and_active(stream: Stream, centroids: Tensor, width: int) -> Tensor:
    """Return how many of all patterns' active neurons their centroids cover, and how many there are."""
    counts = torch.zeros(2, dtype=torch.int64, device=centroids.device)
    for block in stream:
        chosen = centroids.index_select(0, assign(block.scores, centroids, width)[0])
        counts += torch.stack(
            [count_active(some).sum() for some in (block.patterns & chosen, block.patterns)]
        )
    return summed(counts)
