"""The activations themselves, for patterns that look at more than magnitudes."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.models.sites import Site


@dataclass
class Signed:
    """Scores are x. No word of a config: codebooks, whose importance may need the sign, are given them."""

    reads_site = False

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return `x`."""
        return x
