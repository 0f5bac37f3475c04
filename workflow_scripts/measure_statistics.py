"""Statistics of the inputs of linear layers over the calibration windows."""

from pathlib import Path
from typing import Any

from actsparse.jobs.gpu_job import gpu_job
from actsparse.jobs.logs import progress


def measure(
    model: Path,
    windows: Path,
    projections: list[str],
    output: Path,
    **opening: Any,
) -> None:
    """Write norm, mean and maximum of each input channel of `projections` to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.calibration.statistics import measure_statistics
    from actsparse.methods.per_site import save_per_site
    from actsparse.models.opening import open_model_and_windows

    loaded, tokens = open_model_and_windows(model, windows, **opening)
    save_per_site(measure_statistics(loaded, progress(tokens, "statistics"), projections), output)


if "snakemake" in globals():
    with gpu_job(snakemake):
        measure(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.params.projections,
            output=snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.loading,
        )
