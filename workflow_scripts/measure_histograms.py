"""Histograms of abs(activation) of a dense model over the calibration windows."""

from pathlib import Path

from actsparse.leases import leased_devices
from actsparse.logs import log_to, progress


def measure(
    model: Path,
    windows: Path,
    counted: dict,
    output: Path,
    *,
    dtype: str,
    trust_remote_code: bool,
    device: str,
    threads: int,
) -> None:
    """Write the histograms of what `counted` names (side, projections, scorer) to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.devices import pick_device, use_threads
    from actsparse.histograms import measure_histograms, save_histograms
    from actsparse.models import load_model
    from actsparse.registry import resolve
    from actsparse.scorers import SCORERS
    from actsparse.windows import load_windows

    use_threads(threads)
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)
    tokens, _ = load_windows(windows)
    scorer = None
    if counted["scorer"] != "magnitude":
        scorer = resolve(SCORERS, counted["scorer"], "scorer")()
    histograms = measure_histograms(
        loaded, progress(tokens, "histograms"), counted["projections"], counted["side"], scorer
    )
    save_histograms(histograms, output)


if "snakemake" in globals():
    gpus = leased_devices(snakemake.resources.gpu, snakemake.resources.jobs_per_gpu)
    with log_to(snakemake.log[0]), gpus:
        measure(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.params.counted,
            output=snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.loading,
        )
