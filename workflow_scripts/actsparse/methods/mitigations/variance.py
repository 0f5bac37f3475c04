"""Variance correction (arXiv 2509.22166): what is left gets the variance back that pruning took."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.methods.mitigations.mitigation import Mitigation
from actsparse.models.sites import Site


@dataclass
class Variance(Mitigation):
    """The layer gets x_s * sqrt(var(x) / var(x_s)), x_s the pruned x, variances per token.

    As published (first revision) they are over the whole batch.
    """

    word = "variance"

    as_published: bool = False

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return the rescaled `kept`; a token that is constant after pruning stays as it is."""
        return (kept.float() * variance_factor(x, kept, None if self.as_published else -1)).to(kept.dtype)


def variance_factor(x: Tensor, kept: Tensor, dim: int | None) -> Tensor:
    """Return sqrt(var(x) / var(kept)) along `dim` (None: of all), float32; 1 where `kept` is constant."""
    before, after = (part.float().var(dim=dim, keepdim=True) for part in (x, kept))
    return (before / after).sqrt().where(after > 0, 1.0)
