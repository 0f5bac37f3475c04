"""WINA (arXiv 2505.19427): weight-informed neuron activation."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from actsparse.models.sites import Site


@dataclass
class Wina:
    """Scores are abs(x_i) * norm(W_:,i): an input counts by what it can move in the output."""

    word = "wina"
    ranks = ("input",)

    reads_site = True
    norms: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return float32 scores of the shape of `x` (..., d)."""
        if site.name not in self.norms:
            self.norms[site.name] = torch.linalg.vector_norm(site.weight.float(), dim=0)
        return x.float().abs() * self.norms[site.name]
