"""Amber Pruner (arXiv 2508.02128): column norms of the weight, robust against its outliers."""

from dataclasses import dataclass, field
from math import ceil, floor

import torch
from torch import Tensor

from actsparse.models.sites import Site

LOW, HIGH = 0.005, 0.995


@dataclass
class Amber:
    """Scores are abs(x_i) * norm(V_:,i) / min_k norm(V_:,k).

    V is the weight standardised with the mean and standard deviation of its entries between the 0.5 and
    99.5 % quantiles; it is computed once per site.
    """

    word = "amber"
    ranks = ("input",)

    reads_site = True
    factors: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return float32 scores of the shape of `x` (..., d)."""
        if site.name not in self.factors:
            self.factors[site.name] = column_factors(site.weight.float())
        return x.float().abs() * self.factors[site.name]


def column_factors(weight: Tensor) -> Tensor:
    """Return norm(V_:,i) / min_k norm(V_:,k), (in_features), of a float32 weight (out, in)."""
    entries = weight.flatten()
    # Order statistics next to the quantiles select the same entries, and have no limit on the size.
    low = entries.kthvalue(ceil(LOW * (len(entries) - 1)) + 1).values
    high = entries.kthvalue(floor(HIGH * (len(entries) - 1)) + 1).values
    inner = entries[(entries >= low) & (entries <= high)]
    norms = torch.linalg.vector_norm((weight - inner.mean()) / inner.std(), dim=0)
    return norms / norms.min()
