"""What rotations have in common: which inputs they turn, and how a site looks from there."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from actsparse.models.sites import Site

# Their inputs are made inside a block, heads or neurons one by one; no earlier weight can take up a rotation.
INSIDE = ("o_proj", "down_proj")


@dataclass
class Rotation(ABC):
    """An input x becomes z = x Q, is pruned as z, and the layer gets z_pruned Q^T.

    As W (Q z) = (W Q) z, W Q can stand in for the weight, and Q go into what comes before, so that nothing is
    turned when the model runs; here x is turned and turned back, which gives the same numbers. Each block has
    one Q for what it reads of the hidden states (q, k and v; gate and up).
    """

    reads_site = False
    turned: dict[str, Tensor] = field(default_factory=dict, repr=False, init=False)

    @abstractmethod
    def basis(self, site: Site) -> Tensor:
        """Return Q for the block of a site, orthogonal, (d, d)."""

    def of(self, site: Site, x: Tensor) -> Tensor | None:
        """Return Q for x, on its device, in float32 or float64; None where an input stays as it is."""
        if site.projection in INSIDE:
            return None
        block = block_of(site)
        if block not in self.turned:
            self.turned[block] = self.basis(site).to(x.device, torch.promote_types(x.dtype, torch.float32))
        return self.turned[block]


class Turned(Site):
    """A site whose weight is W Q, as scorers see it from the basis `columns`."""

    columns: Tensor

    @property
    def weight(self) -> Tensor:
        """(out_features, in_features), in the basis' dtype."""
        return super().weight.to(self.columns.dtype) @ self.columns


def turn(site: Site, columns: Tensor) -> Turned:
    """Return a site as it looks from a basis (d, d)."""
    turned = Turned(**vars(site))
    object.__setattr__(turned, "columns", columns)
    return turned


def block_of(site: Site) -> str:
    """Return the name of the module that a site's layer stands in."""
    return site.module_name.rpartition(".")[0]
