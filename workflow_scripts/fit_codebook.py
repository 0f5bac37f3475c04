"""Fit one codebook per projection to stored activation patterns."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from actsparse.jobs.files import digest_of
from actsparse.jobs.gpu_job import gpu_job
from actsparse.jobs.leases import visible_devices
from actsparse.jobs.logs import progress


def fit(
    patterns_folder: str | Path,
    *,
    output: str | Path,
    threads: int,
    device: str = "cpu",
    processes: int = 1,
    allocation: str = "uniform",
    held_out: str | Path | None = None,
    **spec: Any,
) -> None:
    """Fit the codebooks of all projections in a pattern store and write them to one file.

    `spec` are the arguments of `actsparse.codebooks.fit.fit_codebook`, whose centroid_sparsity is shared
    out by `actsparse.codebooks.allocation.sparsities` as `allocation` says. Where the algorithm allows
    it, `processes` share the patterns and `threads`, each on a GPU of its own if there are any. What
    codebooks cover of the pattern store `held_out`, if there is one, is written with them.
    """
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.codebooks import ALGORITHMS
    from actsparse.codebooks.parallel import spread

    spec = {"groups": 1, "options": {}} | spec
    says = ALGORITHMS[spec["algorithm"]].says
    if says.get("on_the_cpu"):
        device = "cpu"
    if not says.get("shared_by_processes") or spec["options"].get("balanced"):
        processes = 1
    arguments = patterns_folder, output, max(1, threads // processes), device, allocation, held_out, spec
    if processes > 1:
        spread(processes, fit_share, *arguments)
    else:
        fit_share(*arguments)


def fit_share(
    patterns_folder: str | Path,
    output: str | Path,
    threads: int,
    device: str,
    allocation: str,
    held_out: str | Path | None,
    spec: dict[str, Any],
) -> None:
    """Fit with this process's share of the patterns; the first process writes the file."""
    from actsparse.codebooks.allocation import sparsities
    from actsparse.codebooks.codebook import save_codebooks
    from actsparse.codebooks.fit import fit_codebook, fitting_tokens
    from actsparse.codebooks.parallel import processes
    from actsparse.codebooks.pattern_store import PatternStore
    from actsparse.codebooks.quality import measure
    from actsparse.jobs.devices import pick_device, use_threads

    use_threads(threads)
    store = PatternStore(patterns_folder)
    first = processes()[0] == 0
    asked = {key: spec[key] for key in ("centroid_sparsity", "algorithm", "patterns")}
    codebooks, shares = {}, sparsities(store, allocation, **asked)
    for projection in progress(list(store.widths), "codebooks") if first else store.widths:
        codebooks[projection] = fit_codebook(
            store, projection, **spec | {"centroid_sparsity": shares[projection]}, device=pick_device(device)
        )
        if first:
            print(f"{projection}: objective {codebooks[projection].objective}")
    fitted = {
        "fitted_patterns": store.layers * fitting_tokens(store, spec["patterns"]),
        "patterns_digest": digest_of(store.identity),
    }
    if first and held_out:
        unseen = PatternStore(held_out)
        tokens = fitting_tokens(unseen, spec["patterns"])
        codebooks = {
            projection: replace(codebook, unseen=asdict(measure(unseen, projection, codebook, tokens)))
            for projection, codebook in codebooks.items()
        }
    if first:
        save_codebooks(output, codebooks, spec | {"allocation": allocation} | fitted)


if "snakemake" in globals():
    with gpu_job(snakemake):
        fit(
            snakemake.input.patterns,
            output=snakemake.output[0],
            threads=snakemake.threads,
            device=snakemake.params.device,
            processes=max(1, len(visible_devices())),
            held_out=snakemake.input.get("held_out"),
            **snakemake.params.spec,
        )
