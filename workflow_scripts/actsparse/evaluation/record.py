"""The record of one evaluation: the result JSON that tables are made of."""

import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from actsparse.evaluation.memory import halving_batch
from actsparse.evaluation.run import Run
from actsparse.jobs.devices import pick_device
from actsparse.jobs.files import digest_of, read_json, sha256_of, write_json
from actsparse.jobs.provenance import git_commit, package_versions
from actsparse.methods.sparsify import Scheme
from actsparse.models.loading import load_model
from actsparse.models.sites import covered_macs, published_count


def evaluate(
    measure: Callable[[Run], dict[str, Any]],
    build: Callable[[], Scheme | None],
    *,
    model: Path,
    dtype: str,
    trust_remote_code: bool,
    device: str,
    about: dict[str, Any],
    options: dict[str, Any],
    first_windows: int | None,
    files: Mapping[str, Path | list[Path]],
    scheme_files: Mapping[str, Path],
    output: Path,
) -> None:
    """Load a model, `measure` it under the scheme that `build` returns, and write the result JSON to
    `output`.

    `about` names what is evaluated (benchmark, model, experiment, method, params). `files` are those the
    benchmark reads, `scheme_files` those the scheme was built from, both by name; their digests go into the
    record. The batch size, of `options` if they have one, is halved until a batch fits into memory. `seconds`
    is the time of the measurement alone.
    """
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)

    def attempt(batch_size: int) -> tuple[Run, dict[str, Any], float]:
        # With a scheme of its own, so that what an attempt counted before it failed does not count.
        run = Run(loaded, build(), files, options, first_windows, batch_size, model, trust_remote_code)
        start = time.perf_counter()
        return run, measure(run), time.perf_counter() - start

    (run, measured, seconds), batch_size = halving_batch(attempt, options.get("batch_size", 1))
    record = {
        **about,
        **measured,
        **({} if run.applied is None else _applied(run)),
        "dtype": dtype,
        "device": _device_name(loaded.device),
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "peak_memory_mb": _peak_memory_mb(),
        "model_digest": read_json(model)["digest"],
        "inputs": {name: _digest(found) for name, found in {**files, **scheme_files}.items()},
        "versions": package_versions(),
        "git_commit": git_commit(),
    }
    write_json(output, record)


def _applied(run: Run) -> dict[str, Any]:
    """Return what the scheme did while zeros were multiplied."""
    scheme, applied = run.scheme, run.applied
    published = published_count(run.model, scheme.projections) if scheme else 0
    measured = getattr(getattr(scheme, "pattern", None), "measured", dict)
    return {
        "realised_sparsity": applied.realised_sparsity,
        "realised_sparsity_per_site": applied.realised_sparsity_per_site,
        "sites_not_finite": applied.not_finite,
        "covered_macs": covered_macs(run.model, applied.sites) if applied.sites else 0.0,
        "replaced_linear_layers": applied.replaced_linear_layers,
        "replaced_linear_layers_as_published": published,
        **measured(),
    }


def _digest(found: Path | list[Path]) -> str:
    """Return the digest of a file, of a folder's task.json, or of several of these."""
    if isinstance(found, list | tuple):
        return digest_of([_digest(path) for path in found])
    path = Path(found)
    return sha256_of(path / "task.json" if path.is_dir() else path)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
