"""The rows that tables choose from: evaluations, codebooks, thresholds. All columns, all digits."""

import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from actsparse.jobs.files import read_json
from actsparse.methods.sparsity_table import TABLE_SUFFIX
from actsparse.report.tables.records import Results, accuracies, mean_accuracy, number

STDERR = "_stderr"
WEIGHTS = " wt"


def evaluations(results: Results) -> pd.DataFrame:
    """Return one row per (model, experiment), in the order of `results`.

    Columns: model, experiment, method, pruning (see `pruning_word`), every parameter of some method,
    perplexity, perplexity_over_dense, one per task, mean_accuracy, `<metric>_stderr` of these,
    target_sparsity, realised_sparsity, replaced_linear_layers and the same as_published, runtime_min,
    peak_memory_mb. Realised sparsity is that of the perplexity run where there is one. A perplexity that is
    not finite is NaN.
    """
    rows = []
    for (model, experiment), records in results.items():
        first = next(iter(records.values()))
        row = {
            **{key: value for key, value in first["params"].items() if not isinstance(value, list | dict)},
            "model": model,
            "experiment": experiment,
            "method": first["method"],
            "pruning": pruning_word(first["method"], first["params"]),
            "target_sparsity": target_sparsity(first["method"], first["params"]),
            "realised_sparsity": first["realised_sparsity"],
            "replaced_linear_layers": first["replaced_linear_layers"],
            "replaced_linear_layers_as_published": first.get("replaced_linear_layers_as_published"),
            "runtime_min": sum(record["seconds"] for record in records.values()) / 60,
            "peak_memory_mb": max(record.get("peak_memory_mb", 0) for record in records.values()),
        }
        if "perplexity" in records:
            row["perplexity"] = number(records["perplexity"]["value"])
            row["perplexity" + STDERR] = number(records["perplexity"].get("stderr"))
        for task, (accuracy, stderr) in accuracies(records).items():
            row |= {task: accuracy, task + STDERR: stderr}
        if "zero_shot" in records:
            row["mean_accuracy"], row["mean_accuracy" + STDERR] = mean_accuracy(records)
        rows.append(row)
    table = pd.DataFrame(rows)
    if "perplexity" in table:
        dense = table[table.method == "dense"].set_index("model").perplexity
        table["perplexity_over_dense"] = table.perplexity / table.model.map(dense[~dense.index.duplicated()])
    return table


def codebooks(results: Results) -> pd.DataFrame:
    """Return one row per (model, experiment, projection): coverage of held-out patterns, perplexity."""
    rows = []
    for (model, experiment), records in results.items():
        first = next(iter(records.values()))
        found = records.get("perplexity")
        perplexity = {} if found is None else {"perplexity": number(found["value"])}
        for projection, coverage in first.get("coverage", {}).items():
            rows.append(
                {
                    **{key: value for key, value in first["params"].items() if not isinstance(value, list)},
                    "model": model,
                    "projection": projection,
                    **{name: number(value) for name, value in coverage.items()},
                    **perplexity,
                    "realised_sparsity": first["realised_sparsity"],
                    "experiment": experiment,
                }
            )
    return pd.DataFrame(rows)


def thresholds(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Return one row per (model, sparsity, what was counted, layer), a column per projection.

    Threshold files are <model>/<sparsity>.json for FFN outputs, and <model>/<sparsity>-<counted>.json.
    """
    rows = []
    for path in map(Path, paths):
        values = read_json(path)
        for layer in range(max(map(len, values.values()))):
            found = {projection: number(of.get(f"layer_{layer}")) for projection, of in values.items()}
            sparsity, _, counted = path.stem.partition("-")
            name = {"model": path.parent.name, "sparsity": float(sparsity), "counted": counted or "outputs"}
            rows.append({**name, "layer": layer, **found})
    return pd.DataFrame(rows)


def pruning_word(method: str, params: dict[str, Any]) -> str:
    """Return an experiment in the words of the published N:M tables: none, 2:4, 2:4 wt, 0.5, 0.5 wt."""
    if method == "dense":
        return "none"
    if "pattern" in params:
        return str(params["pattern"]) + (WEIGHTS if method == "prune_weights" else "")
    return method


def target_sparsity(method: str, params: dict[str, Any]) -> float:
    """Return the sparsity that an experiment asks for: of a codebook its thresholds', of a table NaN."""
    if method == "dense":
        return 0.0
    if "pattern" not in params:
        return params["threshold" if method == "codebook" else "sparsity"]
    pattern = str(params["pattern"])
    if pattern.endswith(TABLE_SUFFIX):
        return math.nan
    return float(1 - Fraction(pattern.replace(":", "/"))) if ":" in pattern else float(pattern)
