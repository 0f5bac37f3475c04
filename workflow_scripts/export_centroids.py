"""Write fitted centroids in the layout of the artifact of arXiv 2507.14179."""

from pathlib import Path

from actsparse.codebooks.artifact import file_name, write_centroids
from actsparse.codebooks.codebook import load_codebooks
from actsparse.jobs.files import atomic_path
from actsparse.jobs.logs import log_to


def export_centroids(source: str | Path, output: str | Path) -> None:
    """Write one `.pt` file per projection of a codebook file to the folder `output`."""
    with atomic_path(output) as folder:
        folder.mkdir()
        for projection, codebook in load_codebooks(source)[0].items():
            write_centroids(codebook, folder / file_name(projection, codebook))


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        export_centroids(snakemake.input[0], snakemake.output[0])
