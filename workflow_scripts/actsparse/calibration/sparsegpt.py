"""SparseGPT (arXiv 2301.00774): weights pruned one after another, the rest updated to make up for it.

For a row w of a weight and inputs X, removing w_i at the least cost changes the output by
w_i^2 / [H^-1]_ii, H = X^T X, if the remaining weights move by -w_i / [H^-1]_ii * [H^-1]_i,: (optimal brain
surgeon). Columns are treated from left to right, all rows at once, in blocks: only columns to the right of
the current one are updated, and H^-1 restricted to them is a row of the Cholesky factor of H^-1.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from actsparse.calibration.second_moments import second_moments
from actsparse.methods.patterns.n_of_m import NOfM
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.patterns.top_k_as_published import TopKAsPublished
from actsparse.methods.per_site import PerSite
from actsparse.models.layerwise import walk_layers
from actsparse.models.sites import Site, find_sites

BLOCK = 128
DAMPING = 0.01


def prune_model(
    model: nn.Module,
    windows: Tensor,
    pattern: NOfM | TopK | TopKAsPublished,
    projections: Iterable[str],
    layers: str | None = None,
) -> PerSite:
    """Prune the weights of the projections in place, layer by layer; return them by site as `weight`.

    `windows`, int (n, length), are the calibration text; every layer's Hessian comes from what the layers
    pruned before it put out, as in the paper. Memory: the Hessians of one decoder layer.
    """
    sites: dict[int, list[Site]] = {}
    for site in find_sites(model, projections, "weight", layers):
        pattern.check(site)
        sites.setdefault(site.layer, []).append(site)
    pruned: PerSite = {}
    for stage in walk_layers(model, windows):
        here = sites.get(stage.index, [])
        hessians = second_moments(stage, [site.module for site in here], len(windows)) if here else {}
        for site in here:
            weight = site.module.weight.data
            rows = slice(None) if site.rows is None else site.rows
            weight[rows] = prune_weight(weight[rows], hessians[id(site.module)], pattern).to(weight.dtype)
            pruned[site.module_name] = {"weight": weight.cpu()}
        if stage.index == max(sites):
            break
    return pruned


@torch.no_grad()
def prune_weight(weight: Tensor, hessian: Tensor, pattern: NOfM | TopK | TopKAsPublished) -> Tensor:
    """Return the pruned and updated weight (out, in), float32, for H = X^T X (in, in).

    N:M groups are chosen when their first column is reached. Unstructured, the weights of least cost are
    chosen in each block of 128 columns over all rows together, as published, so rows may differ in sparsity;
    TopKAsPublished drops, beyond TopK's, those that cost as much as the first weight that TopK keeps.
    """
    weight, hessian = weight.float().clone(), hessian.float().clone()
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    weight[:, dead] = 0
    diagonal += DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor = torch.linalg.cholesky(inverse, upper=True)

    grouped = isinstance(pattern, NOfM)
    block = BLOCK // pattern.m * pattern.m or pattern.m if grouped else BLOCK
    for start in range(0, weight.shape[1], block):
        part = weight[:, start : start + block]
        local = factor[start : start + block, start : start + block]
        scales = local.diagonal()
        errors = torch.zeros_like(part)
        # A row of its own: the pattern then chooses over the whole block.
        mask = None if grouped else _chosen(part / scales, pattern)
        for column in range(part.shape[1]):
            if grouped and column % pattern.m == 0:
                group = slice(column, column + pattern.m)
                kept = pattern.mask((part[:, group] / scales[group]).abs(), None)
            keeps = kept[:, column % pattern.m] if grouped else mask[:, column]
            error = torch.where(keeps, 0, part[:, column]) / scales[column]
            part[:, column] = torch.where(keeps, part[:, column], 0)
            part[:, column + 1 :] -= error[:, None] * local[column, column + 1 :]
            errors[:, column] = error
        weight[:, start + block :] -= errors @ factor[start : start + block, start + block :]
    return weight


def _chosen(costs: Tensor, pattern: TopK | TopKAsPublished) -> Tensor:
    return pattern.mask(costs.abs().reshape(1, -1), None).reshape(costs.shape)
