"""Histograms of abs(FFN output) of a dense model over the calibration windows."""

from pathlib import Path

from actsparse.devices import pick_device, use_threads
from actsparse.histograms import measure_histograms, save_histograms
from actsparse.logs import log_to, progress
from actsparse.models import load_model
from actsparse.windows import load_windows


def measure(
    model: Path,
    windows: Path,
    projections: list[str],
    output: Path,
    *,
    dtype: str,
    trust_remote_code: bool,
    device: str,
) -> None:
    """Write the histograms of `projections` to `output`."""
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)
    tokens, _ = load_windows(windows)
    save_histograms(measure_histograms(loaded, progress(tokens, "histograms"), projections), output)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        use_threads(snakemake.threads)
        measure(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.params.projections,
            output=snakemake.output[0],
            **snakemake.params.loading,
        )
