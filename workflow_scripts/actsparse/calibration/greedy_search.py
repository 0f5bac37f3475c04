"""TEAL's block-wise greedy search (arXiv 2408.14690): how much of a layer's sparsity each matrix gets.

A decoder layer starts dense. Again and again, the sparsity of that projection is raised whose raise costs the
layer's output least, each time by an equal share of the layer's weights. One search gives the levels of every
sparsity on its way.
"""

import torch
from torch import Tensor, nn

from actsparse.calibration.histograms import quantile
from actsparse.models.layerwise import Stage, walk_layers
from actsparse.models.sites import Site, find_sites

# {"layer_<i>": [{"mean": 0.0, projection: 0.0, ...}, ...]}, an entry for the start and for each step.
Allocation = dict[str, list[dict[str, float]]]


def search_allocation(
    model: nn.Module,
    windows: Tensor,
    histograms: dict[str, Tensor],
    until: float,
    step: float = 0.02,
    limit: float = 0.99,
) -> Allocation:
    """Search every layer until the mean sparsity of its projections, weighted by size, is `until` or more.

    `histograms` are those of the inputs of all projections, `windows`, int (n, length), calibration text;
    `step` is the part of a layer's weights that one step drops, `limit` the most of a projection's inputs.
    Every layer reads the dense model's hidden states, and its error is the squared difference of its output.
    """
    sites = find_sites(model, histograms, "input")
    found: Allocation = {}
    for stage in walk_layers(model, windows):
        here = [site for site in sites if site.layer == stage.index]
        found[f"layer_{stage.index}"] = _steps(stage, here, len(windows), histograms, until, step, limit)
    return found


def levels_at(allocation: Allocation, sparsity: float) -> dict[str, dict[str, float]]:
    """Return {projection: {"layer_<i>": its sparsity}} at which every layer's mean is `sparsity`.

    Between two steps, the one projection that they differ in is raised by part of a step. Raises ValueError
    when the search did not go that far.
    """
    levels: dict[str, dict[str, float]] = {}
    for layer, steps in allocation.items():
        above = next((i for i, step in enumerate(steps) if step["mean"] >= sparsity - 1e-9), None)
        if above is None:
            raise ValueError(f"{layer}: the search ended at sparsity {steps[-1]['mean']:.3f}, not {sparsity}")
        before, after = steps[max(above - 1, 0)], steps[above]
        gap = after["mean"] - before["mean"]
        part = min((sparsity - before["mean"]) / gap, 1.0) if gap else 0.0
        for projection in after.keys() - {"mean"}:
            level = before[projection] + part * (after[projection] - before[projection])
            levels.setdefault(projection, {})[layer] = level
    return levels


def _steps(
    stage: Stage,
    sites: list[Site],
    windows: int,
    histograms: dict[str, Tensor],
    until: float,
    step: float,
    limit: float,
) -> list[dict[str, float]]:
    """Return the levels of a layer's projections, and their mean, at the start and after each step."""
    dense = [stage.run(window) for window in range(windows)]
    sizes = {site.projection: site.module.weight.numel() for site in sites}
    whole = sum(sizes.values())
    levels = dict.fromkeys(sizes, 0.0)
    limits = dict.fromkeys(sizes, 0.0)

    def threshold(projection: str, level: float) -> float:
        return quantile(histograms[projection][stage.index], level)

    def error(projection: str, level: float) -> float:
        saved, limits[projection] = limits[projection], threshold(projection, level)
        total = sum(float((stage.run(w) - y).float().square().sum()) for w, y in enumerate(dense))
        limits[projection] = saved
        return total

    def prune(projection: str):
        def hook(module, args):
            return torch.where(args[0].abs().float() >= limits[projection], args[0], 0), *args[1:]

        return hook

    steps = [{"mean": 0.0} | levels]
    hooks = [site.module.register_forward_pre_hook(prune(site.projection)) for site in sites]
    try:
        while steps[-1]["mean"] < until - 1e-9:
            raised = {word: min(levels[word] + step * whole / sizes[word], limit) for word in levels}
            open_to_more = [word for word in levels if levels[word] < limit]
            chosen = min(open_to_more, key=lambda word: error(word, raised[word]))
            levels[chosen] = raised[chosen]
            limits[chosen] = threshold(chosen, levels[chosen])
            mean = sum(levels[word] * sizes[word] for word in levels) / whole
            steps.append({"mean": mean} | levels)
    finally:
        for hook in hooks:
            hook.remove()
    return steps
