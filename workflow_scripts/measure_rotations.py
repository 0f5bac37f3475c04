"""Principal axes of the inputs of blocks over the calibration windows."""

from pathlib import Path
from typing import Any

from actsparse.jobs.gpu_job import gpu_job


def measure(model: Path, windows: Path, projections: list[str], output: Path, **opening: Any) -> None:
    """Write the axes of what each block of `projections` reads to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.calibration.rotations import measure_axes
    from actsparse.methods.per_site import save_per_site
    from actsparse.models.opening import open_model_and_windows

    loaded, tokens = open_model_and_windows(model, windows, **opening)
    save_per_site(measure_axes(loaded, tokens, projections), output)


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
