"""Tables from result JSONs: full digits as CSV, rounded as Markdown and LaTeX, the same rows in each."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from actsparse.files import atomic_path, read_json

HEADLINE_METRIC = "acc"
DECIMALS = {"perplexity": 3, "runtime_min": 2}
DEFAULT_DECIMALS = 4


def read_results(paths: Iterable[str | Path]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """Return {(model, experiment): {benchmark: record}} in the order of `paths`."""
    results: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for path in paths:
        record = read_json(path)
        results.setdefault((record["model"], record["experiment"]), {})[record["benchmark"]] = record
    return results


def results_table(results: dict[tuple[str, str], dict[str, dict]], tasks: Iterable[str]) -> pd.DataFrame:
    """Return one row per (model, experiment): perplexity, accuracy per task, sparsity, layers, minutes.

    Realised sparsity is that of the perplexity run where there is one; a perplexity that is not finite is NaN.
    """
    rows = []
    for (model, experiment), records in results.items():
        first = next(iter(records.values()))
        row = {"model": model, "experiment": experiment, "method": first["method"]}
        if "perplexity" in records:
            row["perplexity"] = _number(records["perplexity"]["value"])
        for task in tasks:
            row[task] = _number(records["zero_shot"]["tasks"][task][HEADLINE_METRIC]["value"])
        row["realised_sparsity"] = first["realised_sparsity"]
        row["replaced_linear_layers"] = first["replaced_linear_layers"]
        row["runtime_min"] = sum(record["seconds"] for record in records.values()) / 60
        rows.append(row)
    return pd.DataFrame(rows)


def codebooks_table(results: dict[tuple[str, str], dict[str, dict]]) -> pd.DataFrame:
    """Return one row per (model, projection, codebook): coverage of held-out patterns, and the perplexity."""
    rows = []
    for (model, experiment), records in results.items():
        first = next(iter(records.values()))
        params = first["params"]
        for projection, coverage in first.get("coverage", {}).items():
            row = {
                "model": model,
                "projection": projection,
                **{key: params[key] for key in ("clusters", "centroid_sparsity", "algorithm", "scope")},
                **{key: coverage[key] for key in ("recall", "precision", "baseline_recall")},
                "perplexity": _number(records.get("perplexity", {}).get("value")),
                "experiment": experiment,
            }
            rows.append(row)
    return pd.DataFrame(rows)


def write_table(table: pd.DataFrame, csv: Path, markdown: Path, latex: Path) -> None:
    """Write a table three times, atomically: CSV with all digits, Markdown and LaTeX rounded."""
    rounded = table.copy()
    for column in table.select_dtypes("number"):
        if table[column].dtype.kind == "f":
            decimals = DECIMALS.get(column, DEFAULT_DECIMALS)
            rounded[column] = [_rounded(value, decimals) for value in table[column]]
    sides = ["right" if kind.kind in "if" else "left" for kind in table.dtypes]
    escaped = rounded.rename(columns=_escape).map(lambda value: _escape(str(value)))
    for target, text in (
        (csv, table.to_csv(index=False, na_rep="nan")),
        (markdown, rounded.to_markdown(index=False, disable_numparse=True, colalign=sides) + "\n"),
        (latex, escaped.to_latex(index=False, column_format="".join(side[0] for side in sides))),
    ):
        with atomic_path(target) as temporary:
            temporary.write_text(text)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _rounded(value: float, decimals: int) -> str:
    if math.isnan(value):
        return "nan"
    return f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.3e}"


def _escape(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%")
