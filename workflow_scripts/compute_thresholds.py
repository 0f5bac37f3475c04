"""Thresholds at one sparsity, from histograms."""

from pathlib import Path

from actsparse.calibration.histograms import compute_thresholds, load_histograms
from actsparse.jobs.files import read_json
from actsparse.jobs.logs import log_to
from actsparse.methods.thresholds import save_thresholds


def compute(histograms: Path, sparsity: float, allocation: Path | None, output: Path) -> None:
    """Write the thresholds of every projection and layer to `output`.

    Each site gets the same sparsity, or what an `allocation` (of search_allocation.py) gives it.
    """
    if allocation is not None:
        from actsparse.calibration.greedy_search import levels_at

        sparsity = levels_at(read_json(allocation), sparsity)
    save_thresholds(compute_thresholds(load_histograms(histograms), sparsity), output)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        compute(
            snakemake.input.histograms,
            float(snakemake.wildcards.sparsity),
            snakemake.input.get("allocation"),
            snakemake.output[0],
        )
