"""Variance correction of the input, and learned scale and shift of the output (arXiv 2509.22166)."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.methods.mitigations.scale_shift import ScaleShift
from actsparse.methods.mitigations.variance import Variance
from actsparse.models.sites import Site


@dataclass
class VarianceScaleShift(ScaleShift):
    """As `variance` before the layer and as `scale_shift`, trained on top of it, after the layer."""

    word = "variance_scale_shift"

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor:
        """Return `kept` with the variance of `x`."""
        return Variance().restore(kept, x, site)
