"""Assignment with a capacity: no centroid takes more than its share of the patterns of a block."""

import torch
from torch import Tensor

from actsparse.codebooks.packing import unpack, unpack_planes

ROWS = 2**14  # patterns that share out the capacities


def assign_balanced(patterns: Tensor, centroids: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Assign as `assign` does, but at most ceil(n / K) of each `ROWS` patterns to one centroid.

    Nearest first: each pattern asks its best centroid that has not turned it down; a centroid keeps those
    that overlap with it most, the first among equals, and turns the others down, until all are placed
    (deferred acceptance). So no pattern and centroid would both rather have each other than what they got.
    """
    read = unpack if patterns.ndim == 2 else unpack_planes
    transposed = unpack(centroids, width, torch.float32).T
    parts = [_share_out(read(some, width, torch.float32) @ transposed) for some in patterns.split(ROWS)]
    return torch.cat([index for index, _ in parts]), torch.cat([overlap for _, overlap in parts])


def _share_out(overlaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centroid and the overlap of each row, int64 (n,), of overlaps (n, K), which is used up."""
    count, clusters = overlaps.shape
    capacity = -(-count // clusters)
    rows = torch.arange(count, device=overlaps.device)
    while True:
        best = overlaps.max(1)
        # Sorted by centroid, then by overlap; the place in a centroid's queue is the place behind its first.
        order = best.values.argsort(descending=True, stable=True)
        order = order[best.indices[order].argsort(stable=True)]
        queue = best.indices[order]
        place = rows - torch.searchsorted(queue, queue)
        refused = order[place >= capacity]
        if not len(refused):
            return best.indices, best.values.long()
        overlaps[refused, best.indices[refused]] = -1
