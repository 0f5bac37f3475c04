"""Learned shift (arXiv 2509.22166): a trained centre per input channel."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from actsparse.methods.mitigations.mitigation import Mitigation
from actsparse.methods.mitigations.variance import variance_factor
from actsparse.methods.per_site import PerSite, of_site
from actsparse.methods.sparsify import Pattern
from actsparse.models.sites import Site


@dataclass
class LearnedShift(Mitigation):
    """The layer gets prune(x - eta) + eta, eta (d) trained (`actsparse.calibration.training`), from zero on.

    As published in the first revision nothing is trained: the layer gets v * (prune(x - eta) + eta) with the
    values of the first batch that it sees. eta is the mean of each of its tokens, by place in the batch, and
    v is sqrt(var(x) / var(prune(x))) over all of it, by magnitude in `pattern`. Where a later batch has more
    tokens, the artifact fails; here those beyond the first batch's are not shifted.
    """

    word = "learned_shift"
    changes_input = True
    made_by = "trained_parameters"
    from_the_batch_as_published = True

    parameters: PerSite = field(default_factory=dict)
    as_published: bool = False
    pattern: Pattern | None = None

    reads_site = True
    first: dict[str, Tensor] = field(default_factory=dict, repr=False)
    factors: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @staticmethod
    def initial(site: Site) -> dict[str, Tensor]:
        """Return the parameters that training starts from, float32."""
        return {"eta": torch.zeros(site.width)}

    def eta(self, x: Tensor, site: Site) -> Tensor:
        """Return eta in a shape that `x` (..., d) can be shifted by."""
        if not self.as_published:
            return of_site(self.parameters, site, "eta", like=x)
        tokens = x.shape[:-1].numel()
        first = self.first.setdefault(site.name, x.float().mean(dim=-1).flatten())[:tokens]
        missing = first.new_zeros(tokens - len(first))
        return torch.cat([first, missing]).reshape(*x.shape[:-1], 1).to(x.dtype)

    def prepare(self, x: Tensor, site: Site) -> Tensor:
        """Return x - eta."""
        return x - self.eta(x, site)

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return kept + eta, as published times v."""
        shifted = kept + self.eta(x, site)
        if not self.as_published:
            return shifted
        if site.name not in self.factors:
            pruned = torch.where(self.pattern.mask(x.abs(), site), x, 0)
            self.factors[site.name] = variance_factor(x, pruned, dim=None)
        return (shifted.float() * self.factors[site.name]).to(kept.dtype)
