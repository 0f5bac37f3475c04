"""Smoothing scale (after SmoothQuant, arXiv 2211.10438; for pruning in arXiv 2509.22166)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from actsparse.methods.mitigations.mitigation import Mitigation
from actsparse.methods.per_site import PerSite, of_site
from actsparse.models.sites import Site


@dataclass
class Smoothing(Mitigation):
    """x / s is pruned and multiplied with W * s, s_i = sqrt(max abs X_:,i / max abs W_:,i).

    The survivors are multiplied by s instead of the weight: the same product, and the weight stays as it
    is. The maximum of X is that of calibration inputs; as published, of the current batch.
    """

    word = "smoothing"
    changes_input = True
    statistics = True
    from_the_batch_as_published = True

    statistics: PerSite | None = None
    as_published: bool = False

    reads_site = True
    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def scale(self, x: Tensor, site: Site) -> Tensor:
        """Return s, (d), in the dtype of `x`; 1 where a maximum is zero."""
        if site.name not in self.weights:
            self.weights[site.name] = site.weight.abs().amax(dim=0).float()
        if self.as_published:
            inputs = x.reshape(-1, x.shape[-1]).abs().amax(dim=0).float()
        else:
            inputs = of_site(self.statistics, site, "maximum", like=self.weights[site.name])
        ratio = inputs / self.weights[site.name]
        return torch.where(ratio.isfinite() & (ratio > 0), ratio.sqrt(), 1.0).to(x.dtype)

    def prepare(self, x: Tensor, site: Site) -> Tensor:
        """Return x / s."""
        return x / self.scale(x, site)

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return kept * s."""
        return kept * self.scale(x, site)
