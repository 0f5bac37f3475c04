"""N:M patterns: the N best of each M consecutive elements (arXiv 2509.22166, section 3)."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.methods.patterns import kernels
from actsparse.methods.patterns.n_of_m_kernel import LARGEST_GROUP, prune_n_of_m
from actsparse.methods.patterns.top_k import top_k_mask
from actsparse.models.sites import Site


@dataclass
class NOfM:
    """Keep the `n` best of each `m` consecutive elements of the last dimension; ties go to the earlier one.

    Raises ValueError at `check` when a site's width is not a multiple of `m`.
    """

    word = "n_of_m"

    n: int
    m: int

    reads_site = False

    def check(self, site: Site) -> None:
        if site.width % self.m:
            raise ValueError(f"{site.name}: pattern {self.n}:{self.m} does not divide its width {site.width}")

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return the bool mask of `scores` (..., d), d a multiple of m; exactly n of each m are True."""
        return n_of_m_mask(scores, self.n, self.m)

    def prune(self, x: Tensor, scores: Tensor | None) -> tuple[Tensor, int, bool | Tensor] | None:
        """Return the pruned `x`, how many elements are kept, and whether all of `x` is finite, in one pass.

        The same bits as the mask gives; `scores` None stands for abs(x). None where no fast way is at hand.
        """
        kept = x.numel() // self.m * self.n
        if kernels.fits(x, scores) and self.m <= LARGEST_GROUP:
            pruned, finite = prune_n_of_m(x, scores, self.n, self.m)
        elif kernels.fits_gpu(x, scores):
            from actsparse.kernels.gpu.masks import (
                prune_n_of_m as prune_on_gpu,
            )  # most machines have no Triton

            pruned, finite = prune_on_gpu(x, scores, self.n, self.m)
        else:
            return None
        return pruned, kept, finite


def n_of_m_mask(scores: Tensor, n: int, m: int) -> Tensor:
    """Return which elements are among the `n` best of their group of `m`, by score and then by position."""
    return top_k_mask(scores.reshape(-1, m), n).reshape(scores.shape)
