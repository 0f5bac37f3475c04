"""Learned scale and shift of a layer's output (arXiv 2509.22166)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from actsparse.mitigations.none import NoMitigation
from actsparse.per_site import PerSite, of_site
from actsparse.sites import Site


@dataclass
class ScaleShift(NoMitigation):
    """The output becomes y * (1 + scale) + shift, per output channel, trained from zero on.

    As published, nothing is trained: the factor sqrt(var(x) / var(x_s)) and the mean difference
    mean(x) - mean(x_s) of the first batch that a layer sees stay for good, x_s being the pruned input; the
    mean reaches the output through the layer.
    """

    parameters: PerSite = field(default_factory=dict)
    as_published: bool = False

    reads_site = True
    corrects_output = True

    @staticmethod
    def initial(site: Site) -> dict[str, Tensor]:
        """Return the parameters that training starts from, float32."""
        return {"scale": torch.zeros(site.out_features), "shift": torch.zeros(site.out_features)}

    def correct(self, y: Tensor, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return the corrected output; same shape and dtype as `y` (..., out)."""
        if self.as_published and site.module_name not in self.parameters:
            self.parameters[site.module_name] = first_batch(kept.float(), x.float(), site)
        scale = of_site(self.parameters, site, "scale", like=y)
        return y * (1 + scale) + of_site(self.parameters, site, "shift", like=y)


def first_batch(kept: Tensor, x: Tensor, site: Site) -> dict[str, Tensor]:
    """Return scale and shift from one batch of inputs and of what pruning left of them."""
    factor = (x.var() / kept.var()).sqrt()
    difference = (x.mean() - kept.mean()).expand(site.width)
    outputs = site.module.out_features
    return {"scale": (factor - 1).expand(outputs), "shift": site.module.weight.float() @ difference}
