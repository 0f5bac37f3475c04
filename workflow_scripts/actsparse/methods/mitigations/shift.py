"""Dynamic per-token shift (arXiv 2509.22166): pruned elements become the token's centre instead of zero."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.methods.mitigations.mitigation import Mitigation
from actsparse.models.sites import Site


@dataclass
class Shift(Mitigation):
    """The layer gets prune(x - eta) + eta, eta the median of each token (later revision of the paper).

    As published in the first revision, and in the artifact, eta is the token's mean. Of an even number of
    elements the median is the lower of the two in the middle.
    """

    word = "shift"
    changes_input = True

    as_published: bool = False

    def centre(self, x: Tensor) -> Tensor:
        """Return eta, (..., 1), in the dtype of `x` (..., d)."""
        if self.as_published:
            return x.float().mean(dim=-1, keepdim=True).to(x.dtype)
        return x.median(dim=-1, keepdim=True).values

    def prepare(self, x: Tensor, site: Site) -> Tensor:
        """Return x - eta."""
        return x - self.centre(x)

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return kept + eta."""
        return kept + self.centre(x)


@dataclass
class MeanShift(Shift):
    """Shift by the token's mean."""

    word = "shift_mean"

    def centre(self, x: Tensor) -> Tensor:
        """Return eta, (..., 1), in the dtype of `x` (..., d)."""
        return x.float().mean(dim=-1, keepdim=True).to(x.dtype)
