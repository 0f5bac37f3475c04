"""The rows that tables choose from: evaluations, what kinds add, thresholds. All columns, all digits."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from actsparse.columns import Column
from actsparse.jobs.files import number, read_json
from actsparse.kinds import KINDS
from actsparse.kinds.dense import Dense
from actsparse.report.tables.records import Results, applied, kind_of, numbers


def evaluations(results: Results, columns: Iterable[Column] = ()) -> pd.DataFrame:
    """Return one row per (model, experiment), in the order of `results`.

    Columns: model, experiment, method, pruning (`Kind.pruning`), every parameter of some method, those of the
    benchmarks and `<column>_stderr` of these, target_sparsity, realised_sparsity, covered_macs,
    replaced_linear_layers and the same as_published, runtime_min, peak_memory_mb. Realised sparsity is that
    of the first benchmark. What is not finite is NaN. Of `columns`, those of the benchmarks, the ones with a
    ratio to the dense model get it.
    """
    rows = []
    for (model, experiment), records in results.items():
        first, kind = applied(records), kind_of(records)
        rows.append(
            {
                **{key: value for key, value in kind.params.items() if not isinstance(value, list | dict)},
                "model": model,
                "experiment": experiment,
                "method": kind.word,
                "pruning": kind.pruning,
                "target_sparsity": kind.target_sparsity,
                "realised_sparsity": first.get("realised_sparsity"),
                "covered_macs": first.get("covered_macs"),
                "replaced_linear_layers": first.get("replaced_linear_layers"),
                "replaced_linear_layers_as_published": first.get("replaced_linear_layers_as_published"),
                "runtime_min": sum(record["seconds"] for record in records.values()) / 60,
                "peak_memory_mb": max(record.get("peak_memory_mb", 0) for record in records.values()),
                **numbers(records),
            }
        )
    table = pd.DataFrame(rows)
    for column in columns:
        if column.over_dense and column.name in table:
            dense = table[table.method == Dense.word].set_index("model")[column.name]
            ratio = table[column.name] / table.model.map(dense[~dense.index.duplicated()])
            table[f"{column.name}_over_dense"] = ratio
    return table


def extra_rows(results: Results) -> dict[str, pd.DataFrame]:
    """Return {source: one row per (model, experiment) and what its kind has rows of}, with the benchmarks."""
    found: dict[str, list[dict[str, Any]]] = {
        kind.extra_rows.source: [] for kind in KINDS.values() if kind.extra_rows
    }
    for (model, experiment), records in results.items():
        first, kind = applied(records), kind_of(records)
        for row in kind.rows(first):
            found[kind.extra_rows.source].append(
                {
                    **{key: value for key, value in kind.params.items() if not isinstance(value, list)},
                    "model": model,
                    **{key: value if isinstance(value, str) else number(value) for key, value in row.items()},
                    **numbers(records),
                    "realised_sparsity": first["realised_sparsity"],
                    "experiment": experiment,
                }
            )
    return {source: pd.DataFrame(rows) for source, rows in found.items()}


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
