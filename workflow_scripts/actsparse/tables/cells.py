"""A chosen table as text: rounded values, standard errors, which value is best."""

import math
from dataclasses import dataclass

import pandas as pd

from actsparse.tables.sources import STDERR

DECIMALS = {
    "perplexity": 3,
    "perplexity_over_dense": 3,
    "runtime_min": 2,
    "peak_memory_mb": 0,
    "centroid_sparsity": 2,
    "sparsity": 2,
}
DEFAULT_DECIMALS = 4
MISSING = "–"
LOWER_IS_BETTER = {"perplexity", "perplexity_over_dense"}
HIGHER_IS_BETTER = {"mean_accuracy", "recall", "precision"}


@dataclass(frozen=True)
class Cell:
    """A value as it is shown; `stderr` is "" where none is. A table that sorts does so by `sort`."""

    value: str
    stderr: str
    best: bool
    sort: float | str


@dataclass(frozen=True)
class Column:
    """A heading and its cells; numbers stand to the right."""

    heading: str
    numeric: bool
    cells: list[Cell]


def columns(table: pd.DataFrame, best: pd.DataFrame, headings: dict[str, str]) -> list[Column]:
    """Return the columns of a chosen table; those of standard errors go into the cells of their metric."""
    found = []
    for name in table:
        if name.removesuffix(STDERR) in table and name.endswith(STDERR):
            continue
        errors = table.get(name + STDERR, pd.Series(math.nan, index=table.index))
        numeric = pd.api.types.is_numeric_dtype(table[name])
        cells = [
            Cell(
                value=shown(value, name),
                stderr="" if math.isnan(error) else shown(error, name),
                best=bool(is_best),
                sort=value if numeric else str(value),
            )
            for value, error, is_best in zip(table[name], errors, best[name], strict=True)
        ]
        found.append(Column(headings.get(name, name), numeric, cells))
    return found


def best_values(table: pd.DataFrame, rows: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    """Return where a metric is the best of its model (and projection), the dense model aside.

    `rows` is the source that `table` was chosen from, with its index. Ties are all best; where all values
    are equal, none is.
    """
    methods = rows["method"] if "method" in rows else pd.Series("", index=rows.index)
    contenders = table.index[methods.loc[table.index] != "dense"]
    keys = [key for key in ("model", "projection") if key in rows]
    best = pd.DataFrame(False, index=table.index, columns=table.columns)
    for name in table:
        sign = -1 if name in LOWER_IS_BETTER else 1 if name in HIGHER_IS_BETTER or name in tasks else 0
        if sign and len(contenders) and table[name].nunique() > 1:
            values = sign * table.loc[contenders, name]
            largest = values.groupby([rows.loc[contenders, key] for key in keys]).transform("max")
            best.loc[contenders, name] = values == largest
    return best


def shown(value: object, name: str) -> str:
    """Return a value as text, rounded as its column is; the number of digits hides no order of magnitude."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{DECIMALS.get(name, DEFAULT_DECIMALS)}f}" if abs(value) < 1e6 else f"{value:.3e}"
