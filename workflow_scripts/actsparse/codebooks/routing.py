"""What routers learn from: inputs of feed-forward networks, and what centroids keep of their outputs."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from actsparse.codebooks.codebook import Codebook
from actsparse.codebooks.packing import unpack
from actsparse.codebooks.router import covered_shares
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.thresholds import Thresholds
from actsparse.models.sites import Site
from actsparse.models.streaming import stream, watched

ROWS = 2**12  # tokens at a time


def block_inputs(model: nn.Module, windows: Iterable[Tensor], sites: Iterable[Site]) -> dict[int, Tensor]:
    """Run the model; return the input of each layer's feed-forward network, (tokens, d), on the CPU.

    All layers are held at once: layers x tokens x d numbers of the model's type.
    """
    blocks = {site.layer: site.block for site in sites}
    parts: dict[int, list[Tensor]] = {layer: [] for layer in blocks}

    def keep(layer: int, x: Tensor, output: Tensor) -> None:
        parts[layer].append(x.flatten(0, -2).cpu())

    with watched(blocks.items(), keep):
        stream(model, windows)
    return {layer: torch.cat(parts.pop(layer)) for layer in list(parts)}


@torch.inference_mode()
def layer_magnitudes(
    sites: list[Site], hidden: Tensor, thresholds: Thresholds, codebooks: dict[str, Codebook]
) -> dict[str, Tensor]:
    """Return what one layer's active neurons are worth to `codebooks`, 0 for inactive ones, by projection.

    `hidden` (tokens, d) are inputs of the layer's feed-forward network. Float32 (tokens, D), on the CPU.
    """
    parts: dict[str, list[Tensor]] = {site.projection: [] for site in sites}

    def keep(site: Site, x: Tensor, output: Tensor) -> None:
        values = site.part(output)
        mask = Threshold(thresholds).mask(values.abs(), site)
        kept = torch.where(mask, codebooks[site.projection].worth(values, site), 0)
        parts[site.projection].append(kept.float().cpu())

    with watched(((site, site.module) for site in sites), keep):
        for some in hidden.split(ROWS):
            sites[0].block(some.to(sites[0].module.weight.device))
    return {projection: torch.cat(some).clone() for projection, some in parts.items()}


def layer_coverage(
    sites: list[Site], hidden: Tensor, thresholds: Thresholds, codebooks: dict[str, Codebook]
) -> dict[str, Tensor]:
    """Return `covered_by_codebook` of `layer_magnitudes`, by projection, holding those of few tokens."""
    parts: dict[str, list[Tensor]] = {site.projection: [] for site in sites}
    for some in hidden.split(ROWS):
        for projection, magnitudes in layer_magnitudes(sites, some, thresholds, codebooks).items():
            parts[projection].append(covered_by_codebook(codebooks[projection], magnitudes, sites[0].layer))
    return {projection: torch.cat(some) for projection, some in parts.items()}


def covered_by_codebook(codebook: Codebook, magnitudes: Tensor, layer: int) -> Tensor:
    """Return the share of each token's magnitudes (n, D) that each centroid keeps: float32 (n, G, K)."""
    width = codebook.width // codebook.groups
    parts = zip(magnitudes.chunk(codebook.groups, 1), codebook.of_layer(layer), strict=True)
    return torch.stack([covered_shares(part, unpack(centroids, width)) for part, centroids in parts], 1)
