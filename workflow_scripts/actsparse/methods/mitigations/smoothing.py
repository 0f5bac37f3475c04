"""Smoothing scale (after SmoothQuant, arXiv 2211.10438; for pruning in arXiv 2509.22166)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import linear

from actsparse.methods.mitigations.mitigation import Mitigation
from actsparse.methods.per_site import PerSite, of_site
from actsparse.models.sites import Site


@dataclass
class Smoothing(Mitigation):
    """x / s is pruned and multiplied with W * s, s_i = sqrt(max abs X_:,i / max abs W_:,i).

    The survivors are multiplied by s instead of the weight: the same product, and the weight stays as it
    is. The maximum of X is that of calibration inputs; as published, of the current batch, and W * s is
    rounded before the product.
    """

    word = "smoothing"
    changes_input = True
    statistics = True
    from_the_batch_as_published = True

    statistics: PerSite | None = None
    as_published: bool = False

    reads_site = True

    @property
    def corrects_output(self) -> bool:
        """Whether the layer's own product is replaced."""
        return self.as_published

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
        """Return kept * s; as published, kept, whose product `correct` makes."""
        return kept if self.as_published else kept * self.scale(x, site)

    def correct(self, y: Tensor, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return kept (W * s)^T, in place of y; biases are dropped as published."""
        return linear(kept, site.module.weight * self.scale(x, site))
