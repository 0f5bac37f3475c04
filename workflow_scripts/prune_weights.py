"""Weights pruned and updated by SparseGPT, for one experiment on one model."""

from pathlib import Path
from typing import Any

from actsparse.leases import leased_devices
from actsparse.logs import log_to


def prune_weights(
    model: Path,
    windows: Path,
    params: dict[str, Any],
    output: Path,
    *,
    dtype: str,
    trust_remote_code: bool,
    device: str,
    threads: int,
) -> None:
    """Write the pruned weights of the experiment's projections to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.devices import pick_device, use_threads
    from actsparse.models import load_model
    from actsparse.patterns import PATTERNS, parse_pattern
    from actsparse.per_site import save_per_site
    from actsparse.registry import resolve
    from actsparse.sparsegpt import prune_model
    from actsparse.windows import load_windows

    use_threads(threads)
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)
    tokens, _ = load_windows(windows)
    word, arguments = parse_pattern(params["pattern"])
    pattern = resolve(PATTERNS, word, "pattern")(*arguments)
    pruned = prune_model(loaded, tokens, pattern, params["projections"], params.get("layers"))
    save_per_site(pruned, output)


if "snakemake" in globals():
    gpus = leased_devices(snakemake.resources.gpu, snakemake.resources.jobs_per_gpu)
    with log_to(snakemake.log[0]), gpus:
        prune_weights(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.params.params,
            snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.loading,
        )
