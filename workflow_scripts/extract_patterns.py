"""Activation patterns of a dense model over the calibration windows, bit-packed."""

from pathlib import Path

from actsparse.files import atomic_path, read_json, sha256_of
from actsparse.leases import leased_devices
from actsparse.logs import log_to, progress


def extract(
    model: Path,
    windows: Path,
    thresholds: Path,
    projections: list[str],
    output: Path,
    *,
    magnitudes: str | None = None,
    dtype: str,
    trust_remote_code: bool,
    device: str,
    threads: int,
) -> None:
    """Write the pattern store of `projections` to the folder `output`, with `magnitudes` if wanted."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.devices import pick_device, use_threads
    from actsparse.extraction import extract_patterns
    from actsparse.models import load_model
    from actsparse.pattern_store import PatternWriter
    from actsparse.sites import find_sites
    from actsparse.thresholds import load_thresholds
    from actsparse.windows import load_windows

    use_threads(threads)
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)
    tokens, _ = load_windows(windows)
    every = load_thresholds(thresholds)
    values = {projection: every[projection] for projection in projections}
    identity = {
        "model": read_json(model)["digest"],
        "windows": sha256_of(windows),
        "thresholds": sha256_of(thresholds),
    }
    sites = find_sites(loaded, values, "output")
    layers = 1 + max(site.layer for site in sites)
    widths = {site.projection: site.width for site in sites}
    stored = {"magnitudes": magnitudes}
    with atomic_path(output) as folder, PatternWriter(folder, identity, layers, widths, **stored) as writer:
        extract_patterns(loaded, progress(tokens, "patterns"), values, writer)


if "snakemake" in globals():
    gpus = leased_devices(snakemake.resources.gpu, snakemake.resources.jobs_per_gpu)
    with log_to(snakemake.log[0]), gpus:
        extract(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.input.thresholds,
            snakemake.params.projections,
            output=snakemake.output[0],
            magnitudes=snakemake.params.magnitudes,
            threads=snakemake.threads,
            **snakemake.params.loading,
        )
