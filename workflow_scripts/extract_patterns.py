"""Activation patterns of a model over the calibration windows, bit-packed."""

from pathlib import Path
from typing import Any

from actsparse.jobs.files import atomic_path, read_json, sha256_of
from actsparse.jobs.gpu_job import gpu_job
from actsparse.jobs.logs import progress


def extract(
    model: Path,
    windows: Path,
    thresholds: Path,
    projections: list[str],
    output: Path,
    *,
    thresholded: bool = False,
    importance: str = "magnitude",
    patterns: int | None = None,
    magnitudes: str | None = None,
    values: bool = False,
    **opening: Any,
) -> None:
    """Write the pattern store of `projections` to the folder `output`, maybe with `magnitudes` or `values`.

    What these measure is the `importance`, `magnitude` or `contribution`.
    They are the dense model's, or those with its thresholds at work if `thresholded`. At most `patterns` of
    each projection are stored, over all layers: those that a codebook is fitted on.
    """
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.codebooks.extraction import extract_patterns
    from actsparse.codebooks.pattern_store import PatternWriter, evenly_spaced
    from actsparse.methods.thresholds import load_thresholds
    from actsparse.models.opening import open_model_and_windows
    from actsparse.models.sites import find_sites

    loaded, tokens = open_model_and_windows(model, windows, **opening)
    every = load_thresholds(thresholds)
    values = {projection: every[projection] for projection in projections}
    identity = {
        "model": read_json(model)["digest"],
        "windows": sha256_of(windows),
        "thresholds": sha256_of(thresholds),
        "thresholded": thresholded,
        "importance": importance,
    }
    sites = find_sites(loaded, values, "output")
    layers = 1 + max(site.layer for site in sites)
    widths = {site.projection: site.width for site in sites}
    kept = None if patterns is None else evenly_spaced(max(1, patterns // layers), tokens.numel())
    stored = {"magnitudes": magnitudes, "kept": kept, "sequence_length": tokens.shape[1]}
    stored["values"] = values
    with atomic_path(output) as folder, PatternWriter(folder, identity, layers, widths, **stored) as writer:
        extract_patterns(loaded, progress(tokens, "patterns"), values, writer, thresholded, importance)


if "snakemake" in globals():
    with gpu_job(snakemake):
        extract(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.input.thresholds,
            snakemake.params.projections,
            output=snakemake.output[0],
            thresholded=snakemake.params.thresholded,
            importance=snakemake.params.importance,
            patterns=snakemake.params.patterns,
            magnitudes=snakemake.params.magnitudes,
            values=snakemake.params.values,
            threads=snakemake.threads,
            **snakemake.params.loading,
        )
