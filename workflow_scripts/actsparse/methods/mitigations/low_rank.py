"""Low-rank residual (R-Sparse, arXiv 2504.19449): what was pruned goes through a narrow product."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import linear

from actsparse.methods.mitigations.mitigation import Mitigation
from actsparse.models.sites import Site


@dataclass
class LowRank(Mitigation):
    """The output gains (x - x_s) (A B)^T, A B the truncated singular value decomposition of the weight.

    `rank` is cut to the smaller dimension of a weight. Factors are computed once per site.
    """

    word = "low_rank"
    requires = ("rank",)

    rank: int

    reads_site = True
    corrects_output = True
    factors: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def correct(self, y: Tensor, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return the corrected output; same shape and dtype as `y` (..., out)."""
        if site.name not in self.factors:
            self.factors[site.name] = truncated_svd(site.weight, self.rank)
        left, right = self.factors[site.name]
        return y + linear(linear(x - kept, right), left)


def truncated_svd(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A (out, rank) and B (rank, in) in the weight's dtype, A B being its best approximation.

    The projection on the leading singular vectors of the shorter side, which are eigenvectors of a Gram
    matrix: in float64 as exact as a full decomposition in float32, and many times faster.
    """
    wide = weight.double()
    tall = wide.shape[0] > wide.shape[1]
    gram = wide.T @ wide if tall else wide @ wide.T
    leading = torch.linalg.eigh(gram).eigenvectors[:, -rank:]
    left, right = (wide @ leading, leading.T) if tall else (leading, leading.T @ wide)
    return left.to(weight.dtype), right.to(weight.dtype)
