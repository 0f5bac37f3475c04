"""Histograms of abs(activation) of a dense model over the calibration windows."""

from pathlib import Path
from typing import Any

from actsparse.jobs.gpu_job import gpu_job
from actsparse.jobs.logs import progress


def measure(
    model: Path,
    windows: Path,
    counted: dict,
    output: Path,
    **opening: Any,
) -> None:
    """Write the histograms of what `counted` names (side, projections, scorer) to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.calibration.histograms import measure_histograms, save_histograms
    from actsparse.methods.scorers import SCORERS
    from actsparse.models.opening import open_model_and_windows

    loaded, tokens = open_model_and_windows(model, windows, **opening)
    scorer = None
    if counted["scorer"] != "magnitude":
        scorer = SCORERS[counted["scorer"]].load()()
    histograms = measure_histograms(
        loaded, progress(tokens, "histograms"), counted["projections"], counted["side"], scorer
    )
    save_histograms(histograms, output)


if "snakemake" in globals():
    with gpu_job(snakemake):
        measure(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.params.counted,
            output=snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.loading,
        )
