"""Weights pruned layer by layer, by SparseGPT or as published by Wanda, for one experiment on one model."""

from pathlib import Path
from typing import Any

from actsparse.jobs.gpu_job import gpu_job


def prune_weights(
    model: Path,
    windows: Path,
    params: dict[str, Any],
    output: Path,
    **opening: Any,
) -> None:
    """Write the pruned weights of the experiment's projections to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.calibration.sparsegpt import prune_model
    from actsparse.calibration.wanda import prune_in_order
    from actsparse.methods.building import pattern_of, published_pattern
    from actsparse.methods.per_site import save_per_site
    from actsparse.models.opening import open_model_and_windows

    loaded, tokens = open_model_and_windows(model, windows, **opening)
    pattern = published_pattern(params, pattern_of(params["pattern"]), "weight")
    prune = prune_in_order if params["scorer"] == "wanda" else prune_model
    pruned = prune(loaded, tokens, pattern, params["projections"], params.get("layers"))
    save_per_site(pruned, output)


if "snakemake" in globals():
    with gpu_job(snakemake):
        prune_weights(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.params.params,
            snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.loading,
        )
