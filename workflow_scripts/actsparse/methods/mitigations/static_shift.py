"""Static shift (arXiv 2509.22166): the centre is known from calibration."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.per_site import PerSite, of_site
from actsparse.models.sites import Site


@dataclass
class StaticShift(NoMitigation):
    """The layer gets prune(x - eta) + eta, eta a number of the site: the mean of tokens' medians."""

    statistics: PerSite

    def prepare(self, x: Tensor, site: Site) -> Tensor:
        """Return x - eta."""
        return x - of_site(self.statistics, site, "centre", like=x)

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return kept + eta."""
        return kept + of_site(self.statistics, site, "centre", like=x)
