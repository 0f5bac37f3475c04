"""Walsh-Hadamard: an input's energy is spread over all of its elements."""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from actsparse.methods.rotations.rotation import Rotation
from actsparse.models.sites import Site


@dataclass
class Hadamard(Rotation):
    """Q is block-diagonal: normalised Hadamard matrices of the largest power of 2 that divides d.

    It needs no calibration, and no weights to hold it. Outliers are spread, which quantisation likes
    (arXiv 2404.00456); for pruning it is the opposite end of the eigenvectors.
    """

    word = "hadamard"

    def basis(self, site: Site) -> Tensor:
        """Return Q (d, d) in float64, symmetric."""
        twos = (site.width & -site.width).bit_length() - 1
        pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5
        block = reduce(torch.kron, [pair] * twos, torch.ones(1, 1, dtype=torch.float64))
        return torch.block_diag(*[block] * (site.width >> twos))
