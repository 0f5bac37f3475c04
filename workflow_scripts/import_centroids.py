"""Turn given centroids, the artifact's or ours, into the codebook file of an experiment."""

from pathlib import Path

from actsparse.codebooks.artifact import read_centroids
from actsparse.codebooks.codebook import load_codebooks, save_codebooks
from actsparse.jobs.files import sha256_of
from actsparse.jobs.logs import log_to


def import_centroids(sources: dict[str, str], clusters: int, output: str | Path) -> None:
    """Write the codebook file of given centroids.

    `sources` are files by projection: `.pt` files of the artifact, or codebook files of ours. Raises
    ValueError when one does not hold `clusters` centroids.
    """
    codebooks = {}
    for projection, source in sources.items():
        ours = Path(source).suffix == ".safetensors"
        codebook = load_codebooks(source)[0][projection] if ours else read_centroids(source)
        if codebook.clusters != clusters:
            raise ValueError(f"{source}: holds {codebook.clusters} centroids, not the {clusters} expected")
        codebooks[projection] = codebook
    digests = {projection: sha256_of(source) for projection, source in sources.items()}
    save_codebooks(output, codebooks, {"given": digests})


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        import_centroids(snakemake.params.sources, snakemake.params.clusters, snakemake.output[0])
