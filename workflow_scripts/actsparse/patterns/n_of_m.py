"""N:M patterns: the N best of each M consecutive elements (arXiv 2509.22166, section 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.sites import Site


@dataclass
class NOfM:
    """Keep the `n` best of each `m` consecutive elements of the last dimension; ties go to the earlier one.

    Raises ValueError at `check` when a site's width is not a multiple of `m`.
    """

    n: int
    m: int

    reads_site = False

    def check(self, site: Site) -> None:
        if site.width % self.m:
            raise ValueError(f"{site.name}: pattern {self.n}:{self.m} does not divide its width {site.width}")

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return the bool mask of `scores` (..., d), d a multiple of m; exactly n of each m are True."""
        return n_of_m_mask(scores, self.n, self.m)


def n_of_m_mask(scores: Tensor, n: int, m: int) -> Tensor:
    """Return which elements rank below `n` in their group of `m`, by score and then by position.

    The rank of an element is the number of elements of its group that beat it. All pairs are compared, one
    pair of columns at a time over all groups: no sort, no scatter, and ties are exact in any dtype.
    """
    groups = scores.reshape(-1, m).t().contiguous()
    ranks = torch.zeros(groups.shape, dtype=torch.uint8, device=scores.device)
    for later in range(1, m):
        wins = groups[:later] >= groups[later]
        ranks[later] += wins.sum(dim=0, dtype=torch.uint8)
        ranks[:later] += ~wins
    return (ranks < n).t().reshape(scores.shape)
