"""CATS (arXiv 2404.08763): contextually-aware thresholding of the gate's activation."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.models.sites import Site


@dataclass
class Cats:
    """Scores of the gate's output y are abs(act(y)), act the feed-forward network's activation function.

    Zeroing y where they are low zeroes act(y) for SiLU and GELU, and with it the product with up's output.
    """

    word = "cats"
    ranks = ("output",)
    thresholds = True
    counted = ("gate_proj",)

    reads_site = True

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return scores of the shape of `x`. Raises ValueError where there is no activation function."""
        return site.activation(x).abs()
