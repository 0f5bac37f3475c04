"""Right singular vectors of a weight (WINA's column-orthogonal form, arXiv 2505.19427)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from actsparse.methods.rotations.rotation import Rotation
from actsparse.models.sites import Site

# Whose weight gives a block its basis.
LEADING = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "k_proj"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_proj"),
}


@dataclass
class SingularVectors(Rotation):
    """Q = V of W = U S V^T: the columns of W Q are orthogonal, which WINA's bound asks for.

    W is the weight of k_proj for the attention's input, of gate_proj for the feed-forward network's, as
    published; a layer's own where it is fused or there is no gate. The block's other weights are turned
    along, and their columns are no more orthogonal than they were.
    """

    word = "singular_vectors"

    def basis(self, site: Site) -> Tensor:
        """Return V (d, d), in float64; eigenvectors of W^T W."""
        leading = getattr(site.block, LEADING.get(site.projection, ""), site.module)
        wide = leading.weight.double()
        return torch.linalg.eigh(wide.T @ wide).eigenvectors
