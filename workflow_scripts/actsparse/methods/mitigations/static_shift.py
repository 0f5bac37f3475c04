"""Static shift (arXiv 2509.22166): the centre is known from calibration."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.methods.mitigations.mitigation import Mitigation
from actsparse.methods.per_site import PerSite, of_site
from actsparse.models.sites import Site


@dataclass
class StaticShift(Mitigation):
    """The layer gets prune(x - eta) + eta, eta a number of the site: the mean of tokens' medians."""

    word = "shift_static"
    changes_input = True
    statistics = True

    statistics: PerSite

    def prepare(self, x: Tensor, site: Site) -> Tensor:
        """Return x - eta."""
        return x - of_site(self.statistics, site, "centre", like=x)

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return kept + eta."""
        return kept + of_site(self.statistics, site, "centre", like=x)
