"""Activation patterns of a dense model over the calibration windows, bit-packed."""

from pathlib import Path

from actsparse.devices import pick_device, use_threads
from actsparse.extraction import extract_patterns
from actsparse.files import atomic_path, read_json, sha256_of
from actsparse.logs import log_to, progress
from actsparse.models import load_model
from actsparse.pattern_store import PatternWriter
from actsparse.sites import find_sites
from actsparse.thresholds import load_thresholds
from actsparse.windows import load_windows


def extract(
    model: Path,
    windows: Path,
    thresholds: Path,
    projections: list[str],
    output: Path,
    *,
    dtype: str,
    trust_remote_code: bool,
    device: str,
) -> None:
    """Write the pattern store of `projections` to the folder `output`."""
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
    with atomic_path(output) as temporary, PatternWriter(temporary, identity, layers, widths) as writer:
        extract_patterns(loaded, progress(tokens, "patterns"), values, writer)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        use_threads(snakemake.threads)
        extract(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.input.thresholds,
            snakemake.params.projections,
            output=snakemake.output[0],
            **snakemake.params.loading,
        )
