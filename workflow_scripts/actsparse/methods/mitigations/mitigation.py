"""What mitigations have in common: nothing is changed, in all three places where one may act."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.models.sites import Site


@dataclass
class Mitigation:
    """The identity. Mitigations are made from it; each says more of itself where it is more."""

    corrects = ("input",)
    reads_site = False
    corrects_output = False

    def prepare(self, x: Tensor, site: Site) -> Tensor:
        """Return what is scored and pruned in place of `x`; same shape."""
        return x

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return what the layer gets in place of `kept`, the pruned tensor; same shape."""
        return kept
