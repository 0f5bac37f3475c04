"""The record of one evaluation: the result JSON that tables are made of."""

import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from actsparse.evaluation.memory import halving_batch
from actsparse.jobs.devices import pick_device
from actsparse.jobs.files import read_json, sha256_of, write_json
from actsparse.jobs.provenance import git_commit, package_versions
from actsparse.kinds.schemes import build_scheme
from actsparse.methods.sparsify import sparsify
from actsparse.models.loading import load_model
from actsparse.models.sites import published_count


def evaluate(
    benchmark: str,
    measure: Callable[[torch.nn.Module, int], dict[str, Any]],
    *,
    batch_size: int = 1,
    model: Path,
    model_name: str,
    dtype: str,
    trust_remote_code: bool,
    device: str,
    experiment: str,
    method: str,
    params: dict[str, Any],
    scheme_files: Mapping[str, Path],
    data: Mapping[str, Path],
    output: Path,
) -> None:
    """Load a model, apply an experiment's scheme, `measure` it, and write the result JSON to `output`.

    `scheme_files` are those that `build_scheme` takes, `data` those the benchmark reads, both by name; their
    digests go into the record. `measure` takes the model and the batch size, which is halved until a batch
    fits into memory. `seconds` is the time of the measurement alone.
    """
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)

    def attempt(batch_size: int):
        # With a scheme of its own, so that what an attempt counted before it failed does not count.
        scheme = build_scheme(method, params, **scheme_files)
        with sparsify(loaded, scheme) as applied:
            start = time.perf_counter()
            measured = measure(loaded, batch_size)
            return scheme, applied, measured, time.perf_counter() - start

    (scheme, applied, measured, seconds), batch_size = halving_batch(attempt, batch_size)
    record = {
        "benchmark": benchmark,
        "model": model_name,
        "experiment": experiment,
        "method": method,
        "params": params,
        **measured,
        "realised_sparsity": applied.realised_sparsity,
        "realised_sparsity_per_site": applied.realised_sparsity_per_site,
        "sites_not_finite": applied.not_finite,
        "replaced_linear_layers": applied.replaced_linear_layers,
        "replaced_linear_layers_as_published": published_count(loaded, scheme.projections) if scheme else 0,
        **(scheme.pattern.measured() if hasattr(getattr(scheme, "pattern", None), "measured") else {}),
        "dtype": dtype,
        "device": _device_name(loaded.device),
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "peak_memory_mb": _peak_memory_mb(),
        "model_digest": read_json(model)["digest"],
        "inputs": {name: sha256_of(path) for name, path in {**data, **scheme_files}.items()},
        "versions": package_versions(),
        "git_commit": git_commit(),
    }
    write_json(output, record)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
