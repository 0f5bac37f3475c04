"""A chosen table as text: rounded values, standard errors, which value is best."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from actsparse.columns import STDERR
from actsparse.columns import Column as Known
from actsparse.kinds import KINDS
from actsparse.kinds.dense import Dense

if TYPE_CHECKING:
    from actsparse.report.tables.comparisons import Paired

MISSING = "–"
EQUALS = ("model", "target_sparsity")


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


def columns(
    table: pd.DataFrame, best: pd.DataFrame, known: dict[str, Known], headings: dict[str, str]
) -> list[Column]:
    """Return the columns of a chosen table; those of standard errors go into the cells of their metric."""
    found = []
    for name in table:
        if name.removesuffix(STDERR) in table and name.endswith(STDERR):
            continue
        about = known.get(name, Known(name))
        errors = table.get(name + STDERR, pd.Series(math.nan, index=table.index))
        numeric = pd.api.types.is_numeric_dtype(table[name])
        cells = [
            Cell(
                value=shown(value, about),
                stderr="" if pd.isna(error) or pd.isna(value) else shown(error, about, size=value),
                best=bool(is_best),
                sort=value if numeric else str(value),
            )
            for value, error, is_best in zip(table[name], errors, best[name], strict=True)
        ]
        found.append(Column(headings.get(name, about.title), numeric, cells))
    return found


def best_values(
    table: pd.DataFrame,
    rows: pd.DataFrame,
    known: dict[str, Known],
    source: str = "evaluations",
    paired: "Paired | None" = None,
) -> pd.DataFrame:
    """Return where a metric is the best among its equals, the dense model aside.

    Equals are experiments of one model at one target sparsity, or what the kind with rows of its own says.
    `rows` is the source that `table` was chosen from, with its index. Ties are all best, and given `paired`,
    so is what its test at 5 % does not tell from the best; where all equals would be, none is.
    """
    methods = rows["method"] if "method" in rows else pd.Series("", index=rows.index)
    contenders = table.index[methods.loc[table.index] != Dense.word]
    what = EQUALS
    for kind in KINDS.values():
        if kind.extra_rows and kind.extra_rows.source == source:
            what = kind.extra_rows.equals
    keys = [rows.loc[contenders, key] for key in what if key in rows]
    best = pd.DataFrame(False, index=table.index, columns=table.columns)
    for name in table:
        better = known[name].better if name in known else None
        if better and keys and len(contenders):
            values = (-1 if better == "lower" else 1) * table.loc[contenders, name]
            for _, equals in values.groupby(keys, dropna=False):
                marked = _like_the_best(equals.dropna(), rows, name, paired)
                best.loc[marked.index, name] = marked
    return best


def _like_the_best(values: pd.Series, rows: pd.DataFrame, name: str, paired: "Paired | None") -> pd.Series:
    """Return which values are the largest, or not told from one of the largest; none where all are."""
    leaders = values.index[values == values.max()]

    def equal(place: int, leader: int) -> bool:
        found = paired and paired.compare(
            rows.model[place], rows.experiment[place], rows.experiment[leader], name
        )
        return found is not None and found.equal

    marked = pd.Series(
        [place in leaders or any(equal(place, leader) for leader in leaders) for place in values.index],
        index=values.index,
        dtype=bool,
    )
    return marked & (not marked.all())


def common_to_all_rows(table: pd.DataFrame) -> dict[str, str]:
    """Return {column: value} of words and whole numbers that do not differ between rows.

    Rows that lack the value are no difference. A table of one row has nothing in common.
    """
    if len(table) < 2:
        return {}
    described = table.select_dtypes(exclude="floating")
    same = [name for name in described if described[name].nunique() == 1]
    return {name: str(table[name].dropna().iloc[0]) for name in same}


def shown(value: object, column: Known, size: float | None = None) -> str:
    """Return a value as text, rounded as its column is; the number of digits hides no order of magnitude.

    A standard error is rounded as the value of `size` that it belongs to.
    """
    if pd.isna(value):
        # A perplexity is measured of every experiment; where it is no number, it was not finite.
        return "nan" if column.large else MISSING
    if not isinstance(value, float):
        return str(value)
    size = abs(value if size is None else size)
    if column.significant:
        return f"{value:.{column.significant}g}"
    if size >= 1e6:
        return f"{value:.3e}"
    if column.large:
        return f"{value:,.{max(0, min(3, 5 - len(str(int(size)))))}f}"
    return f"{value:.{column.decimals}f}"
