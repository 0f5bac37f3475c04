"""CLACT, the column-norm score of arXiv 2509.22166."""

from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.methods.per_site import PerSite, of_site
from actsparse.models.sites import Site


@dataclass
class Clact:
    """Scores are abs(x_ti) * norm(X_:,i) / norm(x_t,:), column norms being those of calibration inputs.

    As published they are those of the current batch, over all its tokens: a token's mask then depends on
    padding and on tokens that follow it. All is computed in the input's own dtype, in another order, so that
    near ties fall otherwise: divided first, by a norm to which 1e-8 is added, then multiplied.
    """

    word = "clact"
    ranks = ("input",)
    over_the_batch_as_published = True
    statistics = True
    from_the_batch_as_published = True
    unchanged_input = True

    statistics: PerSite | None = None
    as_published: bool = False

    reads_site = False

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return scores of the shape of `x` (..., d), float32, as published those of its dtype."""
        if self.as_published:
            columns = (x**2).reshape(-1, x.shape[-1]).sum(0).sqrt()
            return x.abs() / ((x**2).sum(-1, keepdim=True).sqrt() + 1e-8) * columns
        x = x.float()
        columns = of_site(self.statistics, site, "norm", like=x)
        rows = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        # A token of zeros has no norm to divide by; all its scores are zero anyway.
        return x.abs() * (columns / rows.clamp_min(torch.finfo(x.dtype).tiny))
