"""Learned scale and shift of a layer's output (arXiv 2509.22166)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from actsparse.methods.mitigations.mitigation import Mitigation
from actsparse.methods.per_site import PerSite, of_site
from actsparse.models.sites import Site


@dataclass
class ScaleShift(Mitigation):
    """The output becomes y * (1 + scale) + shift, per output channel, trained from zero on."""

    word = "scale_shift"
    made_by = "trained_parameters"

    parameters: PerSite = field(default_factory=dict)

    reads_site = True
    corrects_output = True

    @staticmethod
    def initial(site: Site) -> dict[str, Tensor]:
        """Return the parameters that training starts from, float32."""
        return {"scale": torch.zeros(site.out_features), "shift": torch.zeros(site.out_features)}

    def correct(self, y: Tensor, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return the corrected output; same shape and dtype as `y` (..., out)."""
        scale = of_site(self.parameters, site, "scale", like=y)
        return y * (1 + scale) + of_site(self.parameters, site, "shift", like=y)
