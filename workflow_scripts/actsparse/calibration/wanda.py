"""Wanda (arXiv 2306.11695) as its authors run it: layer by layer, in the model pruned up to there."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from actsparse.methods.per_site import PerSite
from actsparse.methods.sparsify import Pattern
from actsparse.models.layerwise import Stage, walk_layers
from actsparse.models.sites import Site, find_sites
from actsparse.models.streaming import watched


@torch.no_grad()
def prune_in_order(
    model: nn.Module,
    windows: Tensor,
    pattern: Pattern,
    projections: Iterable[str],
    layers: str | None = None,
) -> PerSite:
    """Prune the weights of the projections in place, layer by layer; return them by site as `weight`.

    `windows`, int (n, length), are the calibration text. A weight's score is abs(W_oi) * norm(X_:,i), X being
    what the decoder layer, itself not pruned yet, makes of the pruned ones before it. Memory: the hidden
    states of all windows.
    """
    sites: dict[int, list[Site]] = {}
    for site in find_sites(model, projections, "weight", layers):
        pattern.check(site)
        sites.setdefault(site.layer, []).append(site)
    pruned: PerSite = {}
    for stage in walk_layers(model, windows):
        here = sites.get(stage.index, [])
        squares = _mean_squares(stage, [site.module for site in here], len(windows)) if here else {}
        for site in here:
            weight = site.module.weight.data
            rows = slice(None) if site.rows is None else site.rows
            scores = weight[rows].float().abs() * squares[id(site.module)].sqrt()
            weight[rows] = torch.where(pattern.mask(scores, site), weight[rows], 0)
            pruned[site.module_name] = {"weight": weight.cpu()}
        if stage.index == max(sites):
            break
    return pruned


def _mean_squares(stage: Stage, modules: Iterable[nn.Linear], windows: int) -> dict[int, Tensor]:
    """Return the squared norms of each linear layer's input channels, float32 (in,), by the layer's id.

    They are means over windows, kept up to date from one to the next, as the original rounds them.
    """
    means: dict[int, Tensor] = {}
    seen: dict[int, int] = {}

    def gather(module: int, x: Tensor, output: Tensor) -> None:
        channels = x.reshape(-1, x.shape[-1]).T.float()
        before = seen.get(module, 0)
        seen[module] = before + 1
        mean = means.get(module, channels.new_zeros(len(channels))) * (before / seen[module])
        means[module] = mean + torch.linalg.vector_norm(channels, dim=1) ** 2 / seen[module]

    with watched({id(module): module for module in modules}.items(), gather):
        for window in range(windows):
            stage.run(window)
    return means
