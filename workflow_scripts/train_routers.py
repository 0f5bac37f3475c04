"""Train a router for each site of a codebook, on calibration text."""

from pathlib import Path
from typing import Any

from actsparse.jobs.gpu_job import gpu_job
from actsparse.jobs.logs import progress


def train(
    model: Path,
    windows: Path,
    thresholds: Path,
    codebook: Path,
    projections: list[str],
    output: Path,
    *,
    patterns_of: str,
    rank: int | None,
    loss: str,
    epochs: int,
    seed: int,
    **opening: Any,
) -> None:
    """Write the routers of `projections`, trained in the model whose patterns were fitted to."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.codebooks.codebook import load_codebooks
    from actsparse.codebooks.router import save_routers, train_router
    from actsparse.codebooks.routing import block_inputs, layer_coverage
    from actsparse.methods.building import build_scheme
    from actsparse.methods.patterns.threshold import Threshold
    from actsparse.methods.sparsify import sparsify
    from actsparse.methods.thresholds import load_thresholds
    from actsparse.models.opening import open_model_and_windows
    from actsparse.models.sites import find_sites

    loaded, tokens = open_model_and_windows(model, windows, **opening)
    codebooks, _ = load_codebooks(codebook)
    values = load_thresholds(thresholds)
    sites = find_sites(loaded, projections, "output")
    scheme = build_scheme("output", {"projections": list(values)}, Threshold(values))
    routers = {}
    with sparsify(loaded, scheme if patterns_of == "thresholded" else None):
        hidden = block_inputs(loaded, progress(tokens, "hidden states"), sites)
        for layer, inputs in progress(hidden.items(), "routers"):
            here = [site for site in sites if site.layer == layer]
            for projection, covered in layer_coverage(here, inputs, values, codebooks).items():
                name = f"{projection}.layer_{layer}"
                routers[name] = train_router(inputs, covered, rank, loss, epochs, seed)
    about = {"tokens": tokens.numel(), "loss": loss, "rank": rank, "epochs": epochs}
    save_routers(output, routers, about)


if "snakemake" in globals():
    with gpu_job(snakemake):
        train(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.input.thresholds,
            snakemake.input.codebook,
            output=snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.training,
            **snakemake.params.loading,
        )
