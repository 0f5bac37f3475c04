"""Where centroids start from: K of the patterns."""

import torch
from torch import Tensor

from actsparse.codebooks.alternation import Stream, patterns_at
from actsparse.codebooks.assign import assign
from actsparse.codebooks.packing import count_active
from actsparse.codebooks.parallel import gathered, start_of_share

SAMPLE = 2**14  # patterns that k-means++ looks at: it passes over them once for each centroid


def choose_seeds(
    stream: Stream, width: int, clusters: int, seeding: str, seed: int, seed_sparsity: float = 0.0
) -> Tensor:
    """Return `clusters` different patterns of the stream, packed, uint8 (clusters, ceil(width / 8)).

    seeding: `random`; `kmeans++` (each is drawn with a probability in proportion to the active neurons that
    those before it leave uncovered); `stratified` (one from each of `clusters` equal parts of the patterns,
    sorted by how many neurons are active, so that the busiest and the quietest tokens are both there).

    seed_sparsity: patterns of a lower sparsity (share of inactive neurons) are left out of the choice. Our
    reading of the low-sparsity filtering in the artifact of arXiv 2507.14179: a pattern in which most neurons
    are active says little about any cluster.

    Raises ValueError when there are fewer such patterns than clusters, or an unknown word.
    """
    own = torch.cat([count_active(block.patterns) for block in stream])
    active, (start, _) = gathered(own), start_of_share(len(own), own.device)
    if clusters > len(active):
        raise ValueError(f"clusters: {clusters} is more than the {len(active)} patterns to fit")
    allowed = (active <= (1 - seed_sparsity) * width).nonzero().flatten().cpu()
    if clusters > len(allowed):
        raise ValueError(
            f"seed_sparsity: {seed_sparsity} leaves {len(allowed)} patterns to start {clusters} clusters from"
        )
    generator = torch.Generator().manual_seed(seed)
    shuffled = allowed[torch.randperm(len(allowed), generator=generator)]
    if seeding == "random":
        chosen = shuffled[:clusters]
    elif seeding == "stratified":
        order = shuffled[active.cpu()[shuffled].argsort(stable=True)]
        bounds = torch.arange(clusters + 1) * len(order) // clusters
        inside = torch.rand(clusters, generator=generator) * (bounds[1:] - bounds[:-1])
        chosen = order[bounds[:-1] + inside.long()]
    elif seeding == "kmeans++":
        sample = patterns_at(stream, shuffled[: max(SAMPLE, clusters)].to(active.device), start)
        return sample[_spread(sample.cpu(), width, clusters, generator).to(active.device)]
    else:
        raise ValueError(f"seeding: {seeding!r} is unknown (allowed: random, kmeans++, stratified)")
    return patterns_at(stream, chosen.to(active.device), start)


def _spread(sample: Tensor, width: int, clusters: int, generator: torch.Generator) -> Tensor:
    """Return the rows that k-means++ chooses, int64 (clusters,)."""
    uncovered = count_active(sample)
    chosen = [0]  # of patterns in random order, the first is a random one
    while len(chosen) < clusters:
        _, shared = assign(sample, sample[chosen[-1:]], width)
        uncovered = torch.minimum(uncovered, count_active(sample) - shared)
        # A pattern that is chosen once leaves nothing of itself uncovered, and is never drawn again.
        cumulated = uncovered.cumsum(0)
        if not cumulated[-1]:
            free = torch.ones(len(sample), dtype=torch.bool)
            free[chosen] = False
            chosen += free.nonzero().flatten()[: clusters - len(chosen)].tolist()
            break
        drawn = torch.rand((), generator=generator, dtype=torch.float64) * cumulated[-1].item()
        chosen.append(int(torch.searchsorted(cumulated, drawn.long(), right=True)))
    return torch.tensor(chosen)
