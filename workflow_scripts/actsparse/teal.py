"""TEAL (arXiv 2408.14690): magnitude thresholds on all inputs, and how much of them each matrix gets.

Uniform sparsity needs nothing but histograms of the inputs. The block-wise greedy search starts a decoder
layer dense, and raises again and again the sparsity of the one projection that costs the layer's output
least, each step by an equal share of the layer's weights, until the layer reaches the target.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from actsparse.histograms import quantile
from actsparse.layerwise import Stage, walk_layers
from actsparse.sites import Site, find_sites
from actsparse.thresholds import Thresholds


def greedy_thresholds(
    model: nn.Module,
    windows: Tensor,
    histograms: dict[str, Tensor],
    sparsity: float,
    step: float = 0.05,
    report: Callable[[int], None] = lambda layer: None,
) -> Thresholds:
    """Return {projection: {"layer_<i>": threshold}} with mean `sparsity`, weighted by size, in every layer.

    `histograms` are those of the inputs of the projections; `windows`, int (n, length), the calibration text;
    `step` is the part of a layer's weights that one step drops. `report` is told each finished layer.
    """
    sites = find_sites(model, histograms, "input")
    thresholds: Thresholds = {projection: {} for projection in histograms}
    for stage in walk_layers(model, windows):
        here = [site for site in sites if site.layer == stage.index]
        for site, level in zip(
            here, _levels(stage, here, len(windows), histograms, sparsity, step), strict=True
        ):
            thresholds[site.projection][f"layer_{site.layer}"] = _threshold(histograms, site, level)
        report(stage.index)
    return thresholds


def _levels(
    stage: Stage,
    sites: list[Site],
    windows: int,
    histograms: dict[str, Tensor],
    sparsity: float,
    step: float,
) -> list[float]:
    """Return the sparsity of each site of a layer."""
    dense = [stage.run(window) for window in range(windows)]
    sizes = [site.module.weight.numel() for site in sites]
    whole = sum(sizes)
    levels = [0.0] * len(sites)
    limits = [0.0] * len(sites)
    hooks = [
        site.module.register_forward_pre_hook(
            lambda module, args, i=i: (torch.where(args[0].abs().float() >= limits[i], args[0], 0), *args[1:])
        )
        for i, site in enumerate(sites)
    ]
    try:
        while (
            missing := sparsity * whole - sum(map(float.__mul__, levels, map(float, sizes)))
        ) > 1e-6 * whole:
            best = None
            for i, site in enumerate(sites):
                # The last step is only as large as what is missing; no site goes beyond 99 %.
                level = min(levels[i] + min(step * whole, missing) / sizes[i], 0.99)
                if level <= levels[i]:
                    continue
                saved, limits[i] = limits[i], _threshold(histograms, site, level)
                error = sum(float((stage.run(w) - y).float().square().sum()) for w, y in enumerate(dense))
                limits[i] = saved
                if best is None or error < best[0]:
                    best = (error, i, level)
            _, chosen, levels[chosen] = best
            limits[chosen] = _threshold(histograms, sites[chosen], levels[chosen])
    finally:
        for hook in hooks:
            hook.remove()
    return levels


def _threshold(histograms: dict[str, Tensor], site: Site, level: float) -> float:
    return quantile(histograms[site.projection][site.layer], level) if level else 0.0
