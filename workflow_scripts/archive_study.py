"""The finished study as one archive."""

from pathlib import Path

from actsparse.jobs.logs import log_to
from actsparse.jobs.provenance import git_commit
from actsparse.report.archive import archive_study

if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        archive_study(
            Path(snakemake.input.provenance[0]).parent,
            git_commit(),
            target=snakemake.output[0],
        )
