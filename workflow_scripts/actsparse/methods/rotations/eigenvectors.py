"""Principal axes of the inputs (LaRoSA, arXiv 2507.01299)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from actsparse.methods.per_site import PerSite
from actsparse.methods.rotations.rotation import Rotation, block_of
from actsparse.models.sites import Site


@dataclass
class Eigenvectors(Rotation):
    """Q holds the eigenvectors of sum x^T x over the calibration text, measured block by block.

    Along them the energy of an input is gathered in few elements, whose largest are kept. For N:M, the axes
    are dealt out to the groups like cards, so that each has strong and weak ones; other patterns do not mind
    the order.
    """

    word = "eigenvectors"
    made_by = "rotations"

    rotations: PerSite
    pattern: Any = None

    def basis(self, site: Site) -> Tensor:
        """Return the eigenvectors (d, d). Raises ValueError where none were measured."""
        try:
            axes = self.rotations[block_of(site)]["axes"]
        except KeyError:
            raise ValueError(f"{site.name}: no axes of its input were measured") from None
        group = getattr(self.pattern, "m", 1)
        return axes[:, torch.arange(axes.shape[1]).reshape(group, -1).T.flatten()]
