"""Histograms of activation magnitudes: one streaming pass, memory for the bins only."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from actsparse.jobs.files import atomic_path
from actsparse.jobs.tensor_files import read_tensors
from actsparse.methods.thresholds import Thresholds
from actsparse.models.sites import Side, Site, find_sites
from actsparse.models.streaming import Once, stream, watched

if TYPE_CHECKING:
    from actsparse.methods.sparsify import Scorer

# A bin is what float32 magnitudes share in exponent and in the first MANTISSA_BITS of the mantissa, so all
# bins have a relative width of 2^-MANTISSA_BITS. Magnitudes outside [2^MIN_EXPONENT, 2^MAX_EXPONENT) fall
# into the first or last bin.
MANTISSA_BITS = 10
MIN_EXPONENT, MAX_EXPONENT = -24, 20
BINS = ((MAX_EXPONENT - MIN_EXPONENT) << MANTISSA_BITS) + 2

_SHIFT = 23 - MANTISSA_BITS
_FIRST = (MIN_EXPONENT + 127) << MANTISSA_BITS


def bin_of(values: Tensor) -> Tensor:
    """Return the bin (int32) of each magnitude of `values`, a floating-point tensor of any shape."""
    bits = values.detach().float().abs().view(torch.int32)
    return (bits >> _SHIFT).sub_(_FIRST - 1).clamp_(0, BINS - 1)


def edges() -> Tensor:
    """Return the BINS + 1 edges (float64): bin b holds edges[b] <= magnitude < edges[b + 1]."""
    inner = (torch.arange(BINS - 1, dtype=torch.int32) + _FIRST) << _SHIFT
    inner = inner.view(torch.float32).double()
    return torch.cat([torch.zeros(1, dtype=torch.float64), inner, inner[-1:]])


def quantile(histogram: Tensor, fraction: float) -> float:
    """Return the magnitude below which `fraction` of the counted values lie.

    `histogram` is int64 (BINS). Inside a bin, values are taken as evenly spread; the relative error is below
    2^-MANTISSA_BITS. Raises ValueError when nothing was counted.
    """
    total = int(histogram.sum())
    if total == 0:
        raise ValueError("the histogram is empty")
    rank = fraction * total
    cumulated = histogram.cumsum(0).double()
    position = int(torch.searchsorted(cumulated, rank, right=True).clamp(max=BINS - 1))
    before = float(cumulated[position - 1]) if position else 0.0
    inside = (rank - before) / max(int(histogram[position]), 1)
    low, high = edges()[position], edges()[position + 1]
    return float(low + (high - low) * min(max(inside, 0.0), 1.0))


def measure_histograms(
    model: nn.Module,
    windows: Iterable[Tensor],
    projections: Iterable[str],
    side: Side = "output",
    scorer: "Scorer | None" = None,
) -> dict[str, Tensor]:
    """Run the dense model over `windows` (each int (length)) and count abs(output) of the projections.

    With side "input", their inputs are counted; with a scorer, its scores of them instead of magnitudes.
    Returns {projection: int64 (layers, BINS)}.
    """
    sites = find_sites(model, projections, side)
    layers = 1 + max(site.layer for site in sites)
    counts = {
        site.projection: torch.zeros(layers, BINS, dtype=torch.int64, device=model.device) for site in sites
    }

    def binned(x: Tensor, site: Site) -> Tensor:
        scores = x if scorer is None else scorer.score(x, site)
        return torch.bincount(bin_of(scores).flatten(), minlength=BINS)

    once = Once(binned)
    shared = side == "input" and (scorer is None or not scorer.reads_site)

    def count(site: Site, x: Tensor, output: Tensor) -> None:
        seen = x if side == "input" else site.part(output)
        counted = once(seen, site) if shared else binned(seen, site)
        counts[site.projection][site.layer] += counted.to(model.device)  # layers may lie on other GPUs

    with watched(((site, site.module) for site in sites), count):
        stream(model, windows)
    return {projection: table.cpu() for projection, table in counts.items()}


def compute_thresholds(
    histograms: dict[str, Tensor], sparsity: float | dict[str, dict[str, float]]
) -> Thresholds:
    """Return {projection: {"layer_<i>": the `sparsity`-quantile of abs(activation)}}.

    `sparsity` is one for all, or one for each site, in the same layout. Sparsity 0 gives thresholds of 0,
    which keep everything.
    """

    def threshold(projection: str, layer: str, row: Tensor) -> float:
        level = sparsity[projection][layer] if isinstance(sparsity, dict) else sparsity
        return quantile(row, level) if level else 0.0

    return {
        projection: {f"layer_{i}": threshold(projection, f"layer_{i}", row) for i, row in enumerate(table)}
        for projection, table in histograms.items()
    }


def save_histograms(histograms: dict[str, Tensor], target: str | Path) -> None:
    """Write histograms as safetensors, atomically."""
    with atomic_path(target) as temporary:
        save_file(histograms, temporary)


def load_histograms(source: str | Path) -> dict[str, Tensor]:
    """Read histograms. Raises ValueError naming a file that is not whole."""
    return read_tensors(source)
