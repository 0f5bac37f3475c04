"""Unstructured sparsity: the largest elements of each row, wherever they are."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

import torch
from torch import Tensor

from actsparse.methods.patterns import kernels
from actsparse.methods.patterns.top_k_kernel import prune_top_k
from actsparse.models.sites import Site


@dataclass
class TopK:
    """Drop floor(sparsity * d) of the d elements of each row (a token, or a row of the weight).

    The rounding favours keeping: realised sparsity never exceeds `sparsity`. Ties go to the earlier element.
    """

    word = "top_k"

    sparsity: float

    reads_site = False

    def check(self, site: Site) -> None:
        """Any width will do."""

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return the bool mask of `scores` (..., d); each row keeps d - floor(sparsity * d) elements."""
        return top_k_mask(scores, self.kept(scores.shape[-1]))

    def prune(self, x: Tensor, scores: Tensor | None) -> tuple[Tensor, int, bool | Tensor] | None:
        """Return the pruned `x`, how many elements are kept, and whether all of `x` is finite, in one pass.

        The same bits as the mask gives; `scores` None stands for abs(x). None where no fast way is at hand.
        """
        if not kernels.fits(x, scores):
            return None
        width = x.shape[-1]
        pruned, finite = prune_top_k(x, scores, self.kept(width))
        return pruned, x.numel() // width * self.kept(width), finite

    def kept(self, width: int) -> int:
        """Return how many elements of a row of `width` survive."""
        return width - floor(Fraction(str(self.sparsity)) * width)


def top_k_mask(scores: Tensor, k: int) -> Tensor:
    """Return the mask of the `k` best elements of each row of `scores` (..., d); ties go to the earlier one.

    Elements above the k-th best score are in; those equal to it fill the room that is left, from the left.
    """
    if k in (0, scores.shape[-1]):
        return torch.full_like(scores, k > 0, dtype=torch.bool)
    threshold = scores.topk(k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
    above = scores > threshold
    tied = scores == threshold
    room = k - above.sum(dim=-1, keepdim=True)
    return above | (tied & (tied.cumsum(dim=-1) <= room))
