"""The full pattern: every element survives."""

from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.models.sites import Site


@dataclass
class Full:
    """Keep everything; for weights that are pruned already, and to see what a mitigation does by itself."""

    word = "full"
    keeps_all = True

    reads_site = False

    def check(self, site: Site) -> None:
        """Any width will do."""

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return a mask of ones of the shape of `scores`."""
        return torch.ones_like(scores, dtype=torch.bool)
