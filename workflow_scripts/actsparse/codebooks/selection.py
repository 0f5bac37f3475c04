"""What is done to centroids once they are fitted: rare ones are replaced, and their recall is counted."""

import torch
from torch import Tensor

from actsparse.codebooks.alternation import Stream, completed, neuron_totals, objective_of, patterns_at
from actsparse.codebooks.assign import assign
from actsparse.codebooks.parallel import gathered, start_of_share, summed
from actsparse.packing import count_active


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
    start, count = start_of_share(len(totals), totals.device)
    sizes = torch.zeros(len(centroids), dtype=torch.int64, device=centroids.device)
    overlaps = []
    for block in stream:
        index, overlap = assign(block.scores, centroids, width)
        sizes += index.bincount(minlength=len(centroids))
        overlaps.append(overlap)
    rare = (summed(sizes) * len(centroids) < least * count).nonzero().flatten()
    if len(rare):
        left = gathered(totals - torch.cat(overlaps))
        worst = left.argsort(descending=True, stable=True)[: len(rare)]
        centroids = centroids.clone()
        centroids[rare] = completed(patterns_at(stream, worst, start), width, ones, frequency)
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
