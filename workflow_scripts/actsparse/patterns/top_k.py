"""Unstructured sparsity: the largest elements of each row, wherever they are."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

import torch
from torch import Tensor

from actsparse.sites import Site


@dataclass
class TopK:
    """Drop floor(sparsity * d) of the d elements of each row (a token, or a row of the weight).

    The rounding favours keeping: realised sparsity never exceeds `sparsity`. Ties go to the earlier element.
    """

    sparsity: float

    reads_site = False

    def check(self, site: Site) -> None:
        """Any width will do."""

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return the bool mask of `scores` (..., d); each row keeps d - floor(sparsity * d) elements."""
        width = scores.shape[-1]
        dropped = floor(Fraction(str(self.sparsity)) * width)
        if dropped == 0:
            return torch.ones_like(scores, dtype=torch.bool)
        order = scores.sort(dim=-1, descending=True, stable=True).indices
        mask = torch.ones_like(scores, dtype=torch.bool)
        return mask.scatter_(-1, order[..., width - dropped :], False)
