"""Histograms of abs(FFN output) of a dense model over the calibration windows."""

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
    """Write the histograms of `projections` to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.devices import pick_device, use_threads
    from actsparse.histograms import measure_histograms, save_histograms
    from actsparse.models import load_model
    from actsparse.windows import load_windows

    use_threads(threads)
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)
    tokens, _ = load_windows(windows)
    save_histograms(measure_histograms(loaded, progress(tokens, "histograms"), projections), output)


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
