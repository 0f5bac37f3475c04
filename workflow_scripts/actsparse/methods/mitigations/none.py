"""No mitigation: the pruned tensor goes into the product as it is."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.models.sites import Site


@dataclass
class NoMitigation:
    """The identity in all three places where a mitigation may act."""

    reads_site = False
    corrects_output = False

    def prepare(self, x: Tensor, site: Site) -> Tensor:
        """Return what is scored and pruned in place of `x`; same shape."""
        return x

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return what the layer gets in place of `kept`, the pruned tensor; same shape."""
        return kept
