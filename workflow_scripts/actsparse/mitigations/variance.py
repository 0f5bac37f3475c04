"""Variance correction (arXiv 2509.22166): what is left gets the variance back that pruning took."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.mitigations.none import NoMitigation
from actsparse.sites import Site


@dataclass
class Variance(NoMitigation):
    """The layer gets x_s * sqrt(var(x) / var(x_s)), x_s the pruned x, variances per token.

    As published (first revision) they are over the whole batch.
    """

    as_published: bool = False

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return the rescaled `kept`; a token that is constant after pruning stays as it is."""
        wide, left = x.float(), kept.float()
        if self.as_published:
            before, after = wide.var(), left.var()
        else:
            before, after = wide.var(dim=-1, keepdim=True), left.var(dim=-1, keepdim=True)
        factor = (before / after).sqrt().where(after > 0, 1.0)
        return (left * factor).to(kept.dtype)
