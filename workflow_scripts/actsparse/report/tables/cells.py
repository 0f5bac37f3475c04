"""A chosen table as text: rounded values, standard errors, which value is best."""

import math
from dataclasses import dataclass

import pandas as pd

from actsparse.report.tables.sources import STDERR

DECIMALS = {
    "runtime_min": 2,
    "peak_memory_mb": 0,
    "centroid_sparsity": 2,
    "sparsity": 2,
    "rank_correlation": 2,
    # Thresholds, which may be small.
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), 4),
}
# As the published tables have them.
DEFAULT_DECIMALS = 3
# Five digits in all, at most three after the point: the last ones of a large perplexity mean nothing.
FIVE_DIGITS = {"perplexity", "perplexity_over_dense", "over_dense", "published_over_dense"}
# Of any metric, so with as many digits as it was published with.
ANY_METRIC = {"published", "reproduced", "difference"}
MISSING = "–"
LOWER_IS_BETTER = {"perplexity", "perplexity_over_dense"}
HIGHER_IS_BETTER = {"mean_accuracy", "recall", "precision", "energy", "accuracy"}
EXPERIMENT_EQUALS = ("model", "target_sparsity")
CODEBOOK_EQUALS = ("model", "projection", "threshold", "centroid_sparsity")


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
                stderr="" if pd.isna(error) or pd.isna(value) else shown(error, name, size=value),
                best=bool(is_best),
                sort=value if numeric else str(value),
            )
            for value, error, is_best in zip(table[name], errors, best[name], strict=True)
        ]
        found.append(Column(headings.get(name, name), numeric, cells))
    return found


def best_values(table: pd.DataFrame, rows: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    """Return where a metric is the best among its equals, the dense model aside.

    Equals are experiments of one model at one target sparsity; codebooks of one projection, threshold and
    centroid sparsity. `rows` is the source that `table` was chosen from, with its index. Ties are all best;
    where all equals have the same value, none is.
    """
    methods = rows["method"] if "method" in rows else pd.Series("", index=rows.index)
    contenders = table.index[methods.loc[table.index] != "dense"]
    what = CODEBOOK_EQUALS if "projection" in rows else EXPERIMENT_EQUALS
    keys = [rows.loc[contenders, key] for key in what if key in rows]
    best = pd.DataFrame(False, index=table.index, columns=table.columns)
    for name in table:
        sign = -1 if name in LOWER_IS_BETTER else 1 if name in HIGHER_IS_BETTER or name in tasks else 0
        if sign and keys and len(contenders):
            values = sign * table.loc[contenders, name]
            equals = values.groupby(keys, dropna=False)
            largest = equals.transform("max")
            best.loc[contenders, name] = (values == largest) & (largest > equals.transform("min"))
    return best


def common_to_all_rows(table: pd.DataFrame) -> dict[str, str]:
    """Return {column: value} of words and whole numbers that do not differ between rows.

    Rows that lack the value are no difference. A table of one row has nothing in common.
    """
    if len(table) < 2:
        return {}
    described = table.select_dtypes(exclude="floating")
    same = [name for name in described if described[name].nunique() == 1]
    return {name: str(table[name].dropna().iloc[0]) for name in same}


def shown(value: object, name: str, size: float | None = None) -> str:
    """Return a value as text, rounded as its column is; the number of digits hides no order of magnitude.

    A standard error is rounded as the value of `size` that it belongs to.
    """
    if pd.isna(value):
        # What is measured of every experiment and yet no number was not finite.
        return "nan" if name in LOWER_IS_BETTER else MISSING
    if not isinstance(value, float):
        return str(value)
    size = abs(value if size is None else size)
    if name in ANY_METRIC:
        return f"{value:.6g}"
    if size >= 1e6:
        return f"{value:.3e}"
    if name in FIVE_DIGITS:
        return f"{value:,.{max(0, min(3, 5 - len(str(int(size)))))}f}"
    return f"{value:.{DECIMALS.get(name, DEFAULT_DECIMALS)}f}"
