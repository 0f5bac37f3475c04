"""Thresholds at one sparsity, from histograms."""

from pathlib import Path

from actsparse.histograms import load_histograms
from actsparse.logs import log_to
from actsparse.thresholds import compute_thresholds, save_thresholds


def compute(histograms: Path, sparsity: float, output: Path) -> None:
    """Write the thresholds of every projection and layer to `output`."""
    save_thresholds(compute_thresholds(load_histograms(histograms), sparsity), output)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        compute(snakemake.input.histograms, float(snakemake.wildcards.sparsity), snakemake.output[0])
