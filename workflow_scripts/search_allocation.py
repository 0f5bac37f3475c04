"""TEAL's block-wise greedy search: the sparsity of each projection of each layer, for one model."""

from pathlib import Path
from typing import Any

from actsparse.jobs.gpu_job import gpu_job


def search(
    model: Path,
    windows: Path,
    histograms: Path,
    until: float,
    sequences: int,
    step: float,
    limit: float,
    output: Path,
    **opening: Any,
) -> None:
    """Write the allocation of all sparsities up to `until`, found on the first `sequences` windows."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.calibration.greedy_search import search_allocation
    from actsparse.calibration.histograms import load_histograms
    from actsparse.jobs.files import write_json
    from actsparse.models.opening import open_model_and_windows

    loaded, tokens = open_model_and_windows(model, windows, **opening)
    write_json(
        output, search_allocation(loaded, tokens[:sequences], load_histograms(histograms), until, step, limit)
    )


if "snakemake" in globals():
    with gpu_job(snakemake):
        search(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.input.histograms,
            output=snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.search,
            **snakemake.params.loading,
        )
