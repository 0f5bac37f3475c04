"""Statistics of the inputs of linear layers over the calibration windows."""

from pathlib import Path

from actsparse.leases import leased_devices
from actsparse.logs import log_to, progress


def measure(
    model: Path,
    windows: Path,
    projections: list[str],
    output: Path,
    *,
    dtype: str,
    trust_remote_code: bool,
    device: str,
    threads: int,
) -> None:
    """Write norm, mean and maximum of each input channel of `projections` to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.calibration import measure_statistics
    from actsparse.devices import pick_device, use_threads
    from actsparse.models import load_model
    from actsparse.per_site import save_per_site
    from actsparse.windows import load_windows

    use_threads(threads)
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)
    tokens, _ = load_windows(windows)
    save_per_site(measure_statistics(loaded, progress(tokens, "statistics"), projections), output)


if "snakemake" in globals():
    gpus = leased_devices(snakemake.resources.gpu, snakemake.resources.jobs_per_gpu)
    with log_to(snakemake.log[0]), gpus:
        measure(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.params.projections,
            output=snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.loading,
        )
