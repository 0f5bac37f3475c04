"""Learned shift (arXiv 2509.22166): a trained centre per input channel."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from actsparse.mitigations.none import NoMitigation
from actsparse.per_site import PerSite, of_site
from actsparse.sites import Site


@dataclass
class LearnedShift(NoMitigation):
    """The layer gets prune(x - eta) + eta, eta (d) trained (`actsparse.training`), from zero on.

    As published, eta is never trained: it keeps the channel means of the first batch that a layer sees.
    """

    parameters: PerSite = field(default_factory=dict)
    as_published: bool = False

    reads_site = True

    @staticmethod
    def initial(site: Site) -> dict[str, Tensor]:
        """Return the parameters that training starts from, float32."""
        return {"eta": torch.zeros(site.width)}

    def prepare(self, x: Tensor, site: Site) -> Tensor:
        """Return x - eta."""
        if self.as_published and site.module_name not in self.parameters:
            self.parameters[site.module_name] = {"eta": x.reshape(-1, x.shape[-1]).float().mean(dim=0)}
        return x - of_site(self.parameters, site, "eta", like=x)

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return kept + eta."""
        return kept + of_site(self.parameters, site, "eta", like=x)
