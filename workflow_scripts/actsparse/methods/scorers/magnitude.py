"""Magnitude, the baseline of arXiv 2509.22166 and of weight pruning alike."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.models.sites import Site


@dataclass
class Magnitude:
    """Scores are abs(x)."""

    word = "magnitude"
    ranks = ("input", "output", "weight")
    over_the_matrix_as_published = True
    thresholds = True

    reads_site = False

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return abs(x); same shape and dtype as `x`."""
        return x.abs()
