"""Amber Pruner (arXiv 2508.02128): column norms of the weight, robust against its outliers."""

from dataclasses import dataclass, field
from math import ceil, floor
from zlib import crc32

import torch
from torch import Tensor

from actsparse.models.sites import Site

LOW, HIGH = 0.005, 0.995
# As published: of a larger weight so many entries are drawn.
LARGE, DRAWN = 100_000, 50_000


@dataclass
class Amber:
    """Scores are abs(x_i) * norm(V_:,i) / min_k norm(V_:,k).

    V is the weight standardised with the mean and standard deviation of its entries between the 0.5 and
    99.5 % quantiles; it is computed once per site. As published, the quantiles of a weight of more than
    100,000 entries are those of 50,000 drawn ones.
    """

    word = "amber"
    ranks = ("input",)
    over_the_batch_as_published = True
    seeded_as_published = True

    as_published: bool = False
    seed: int = 0

    reads_site = True
    factors: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return float32 scores of the shape of `x` (..., d)."""
        if site.name not in self.factors:
            self.factors[site.name] = self.factors_of(site)
        return x.float().abs() * self.factors[site.name]

    def factors_of(self, site: Site) -> Tensor:
        """Return what the magnitudes of a site's inputs are multiplied by, float32 (d)."""
        weight = site.weight.float()
        return column_factors(weight, self._drawn(weight, site) if self.as_published else None)

    def _drawn(self, weight: Tensor, site: Site) -> Tensor | None:
        if weight.numel() <= LARGE:
            return None
        random = torch.Generator().manual_seed(crc32(f"{self.seed} {site.name}".encode()))
        places = torch.randint(weight.numel(), (DRAWN,), generator=random)
        return weight.flatten()[places.to(weight.device)]


def column_factors(weight: Tensor, drawn: Tensor | None = None) -> Tensor:
    """Return norm(V_:,i) / min_k norm(V_:,k), (in_features), of a float32 weight (out, in).

    Quantiles are those of the entries, or of those that were `drawn`.
    """
    entries = weight.flatten()
    if drawn is not None:
        low, high = drawn.quantile(torch.tensor([LOW, HIGH], device=drawn.device))
        return _norms(weight, entries[(entries >= low) & (entries <= high)])
    # Order statistics next to the quantiles select the same entries, and have no limit on the size.
    low = entries.kthvalue(ceil(LOW * (len(entries) - 1)) + 1).values
    high = entries.kthvalue(floor(HIGH * (len(entries) - 1)) + 1).values
    return _norms(weight, entries[(entries >= low) & (entries <= high)])


def _norms(weight: Tensor, inner: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm((weight - inner.mean()) / inner.std(), dim=0)
    return norms / norms.min()
