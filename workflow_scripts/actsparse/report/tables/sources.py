"""The rows that tables choose from: evaluations, what kinds add, thresholds. All columns, all digits."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from actsparse.columns import SPREAD, STDERR, Column
from actsparse.jobs.files import number, read_json
from actsparse.kinds import KINDS
from actsparse.kinds.dense import Dense
from actsparse.report.tables.comparisons import Paired
from actsparse.report.tables.records import Results, applied, kind_of, numbers


def evaluations(
    results: Results, columns: Iterable[Column] = (), paired: Paired | None = None
) -> pd.DataFrame:
    """Return one row per (model, experiment), in the order of `results`.

    Columns: model, experiment, method, pruning (`Kind.pruning`), every parameter of some method, those of the
    benchmarks and `<column>_stderr` of these, target_sparsity, realised_sparsity, covered_macs,
    replaced_linear_layers and the same as_published, runtime_min, peak_memory_mb. Realised sparsity is that
    of the first benchmark. What is not finite is NaN. Of `columns`, those of the benchmarks, the ones with a
    ratio to the dense model get it; given the results as `paired`, with its standard error, and what they are
    against the reference.
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
    return table if paired is None or table.empty else table.assign(**paired_columns(table, columns, paired))


def over_seeds(table: pd.DataFrame, columns: Iterable[Column], repeats: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per (model, experiment without its seed) of what is repeated, from the evaluations.

    `repeats` is {experiment: its name without the seed}. Columns: model, experiment, method, pruning,
    target_sparsity, seeds (how many), and of each of `columns` that is measured the mean over the seeds and
    `<column>_spread`, the standard deviation of one seed (divided by seeds - 1). Where one seed has no finite
    number, both are NaN.
    """
    rows = []
    if table.empty or not repeats:
        return pd.DataFrame(rows)
    for (model, experiment), members in table.groupby(["model", table.experiment.map(repeats)], sort=False):
        row = {"model": model, "experiment": experiment}
        row |= {key: members[key].iloc[0] for key in ("method", "pruning", "target_sparsity")}
        row["seeds"] = len(members)
        for name in dict.fromkeys(["realised_sparsity", *(column.name for column in columns)]):
            if name in members and pd.api.types.is_numeric_dtype(members[name]):
                values = members[name].replace([math.inf, -math.inf], math.nan)
                row |= {name: values.mean(skipna=False), name + SPREAD: values.std(ddof=1, skipna=False)}
        rows.append(row)
    return pd.DataFrame(rows)


def paired_columns(table: pd.DataFrame, columns: Iterable[Column], paired: Paired) -> dict[str, list[float]]:
    """Return the columns of a table of evaluations that pairs of windows or items make, where some are.

    Those are `<name>_over_dense_stderr`, where both results are of the same pairs and no others, and what a
    number is against the reference, with its standard error. Of the dense model and of the reference itself
    they are NaN.
    """
    dense = table[table.method == Dense.word].drop_duplicates("model").set_index("model").experiment
    found: dict[str, list[float]] = {}
    for column in (column for column in columns if column.derived_from):
        others = table.model.map(dense) if column.paired else table.experiment.map(paired.references)
        named = zip(table.model, table.experiment, others, strict=True)
        compared = [
            paired.compare(model, experiment, other, column.name)
            if isinstance(other, str) and other != experiment
            else None
            for model, experiment, other in named
        ]
        if not any(compared):
            continue
        if not column.paired:
            found[column.name] = [each.value if each else math.nan for each in compared]
        sound = [each is not None and (each.whole or not column.paired) for each in compared]
        errors = [each.stderr if good else math.nan for each, good in zip(compared, sound, strict=True)]
        found[column.name + STDERR] = errors
    return found


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
