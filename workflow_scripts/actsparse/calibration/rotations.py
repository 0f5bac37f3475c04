"""Principal axes of what blocks read of the hidden states (LaRoSA, arXiv 2507.01299)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from actsparse.calibration.second_moments import second_moments
from actsparse.methods.per_site import PerSite
from actsparse.methods.rotations.rotation import INSIDE, block_of
from actsparse.models.layerwise import walk_layers
from actsparse.models.sites import Site, find_sites


def measure_axes(
    model: nn.Module, windows: Tensor, projections: Iterable[str], layers: str | None = None
) -> PerSite:
    """Pass `windows`, int (n, length), through the dense model, layer by layer.

    Returns, by the name of each block that holds some of the projections, `axes`: the eigenvectors of X^T X
    of what it reads, (d, d) float32 on the CPU, the strongest first. Sums and decompositions are in float64;
    memory is the moments of one decoder layer, and all axes.
    """
    first: dict[str, Site] = {}
    for site in find_sites(model, projections, "input", layers):
        if site.projection not in INSIDE:
            first.setdefault(block_of(site), site)
    axes: PerSite = {}
    for stage in walk_layers(model, windows):
        here = {block: site for block, site in first.items() if site.layer == stage.index}
        moments = second_moments(stage, [site.module for site in here.values()], len(windows), torch.float64)
        for block, site in here.items():
            vectors = torch.linalg.eigh(
                moments[id(site.module)]
            ).eigenvectors  # from the weakest to the strongest
            axes[block] = {"axes": vectors.flip(1).float().cpu()}
        if all(site.layer <= stage.index for site in first.values()):
            break
    return axes
