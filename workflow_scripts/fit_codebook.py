"""Fit one codebook per projection to stored activation patterns."""

from pathlib import Path
from typing import Any

from actsparse.files import digest_of
from actsparse.jobs import gpu_job
from actsparse.logs import progress


def fit(
    patterns_folder: str | Path,
    clusters: int,
    centroid_sparsity: float,
    algorithm: str,
    scope: str,
    patterns: int,
    steps: int,
    seed: int,
    groups: int = 1,
    options: dict[str, Any] | None = None,
    *,
    output: str | Path,
    threads: int,
) -> None:
    """Fit the codebooks of all projections in a pattern store and write them to one file.

    The arguments are those of `actsparse.codebooks.fit.fit_codebook`.
    """
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.codebooks.codebook import save_codebooks
    from actsparse.codebooks.fit import fit_codebook, fitting_tokens
    from actsparse.devices import use_threads
    from actsparse.pattern_store import PatternStore

    use_threads(threads)
    store = PatternStore(patterns_folder)
    spec = {
        "clusters": clusters,
        "centroid_sparsity": centroid_sparsity,
        "algorithm": algorithm,
        "scope": scope,
        "patterns": patterns,
        "steps": steps,
        "seed": seed,
        "groups": groups,
        "options": options or {},
    }
    codebooks = {}
    for projection in progress(list(store.widths), "codebooks"):
        codebooks[projection] = fit_codebook(store, projection, **spec)
        print(f"{projection}: objective {codebooks[projection].objective}")
    fitted = {
        "fitted_patterns": store.layers * fitting_tokens(store, patterns),
        "patterns_digest": digest_of(store.identity),
    }
    save_codebooks(output, codebooks, spec | fitted)


if "snakemake" in globals():
    with gpu_job(snakemake):
        fit(
            snakemake.input.patterns,
            output=snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.spec,
        )
