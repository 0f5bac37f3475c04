"""A column of results, as kinds and benchmarks declare them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

STDERR = "_stderr"
SPREAD = "_spread"  # the standard deviation over seeds
# How a number is compared with that of another experiment, and the column that has it.
AGAINST_REFERENCE = {"ratio": "over reference", "difference": "minus reference"}


@dataclass(frozen=True)
class Column:
    """A number of each experiment: what it is called, how it is rounded, which way is better.

    name: its word in tables, CSV files and the config.
    heading: its words in tables, where they differ.
    decimals: digits after the point.
    unit: of the number, for the axes of figures.
    large: show five digits in all, at most three after the point, for numbers without an upper bound.
    significant: show so many digits in all, whatever the size.
    better: "lower" or "higher", where one way is.
    headline: whether it stands wherever a table asks for `benchmarks`.
    over_dense: whether its ratio to the dense model's is a column too, `<name>_over_dense`.
    paired: how two experiments are compared where both keep what the number is the mean of: by the ratio of
        exp(mean), or by the difference of means. None where they cannot be.
    derived_from: the column that it is a ratio or difference of, whose pairs decide which values are equal.
    """

    name: str
    heading: str | None = None
    unit: str = ""
    decimals: int = 3
    large: bool = False
    significant: int | None = None
    better: Literal["lower", "higher"] | None = None
    headline: bool = False
    over_dense: bool = False
    paired: Literal["ratio", "difference"] | None = None
    derived_from: str | None = None

    @property
    def title(self) -> str:
        """What it is called in tables and figures."""
        return self.heading or self.name


def with_ratios(columns: list[Column]) -> list[Column]:
    """Return the columns, each followed by its ratio to the dense model's where it has one."""
    found = []
    for column in columns:
        found.append(column)
        if column.over_dense:
            name = f"{column.name}_over_dense"
            heading = f"{column.title} over dense"
            about = {"better": column.better, "paired": column.paired, "derived_from": column.name}
            found.append(Column(name, heading, large=True, **about))
    return found


def with_references(columns: Iterable[Column]) -> list[Column]:
    """Return the columns, and behind them what each that can be paired is against the reference.

    That is `<name>_over_reference`, a ratio, or `<name>_minus_reference`, a difference.
    """
    columns = list(columns)
    against = [
        Column(
            f"{column.name}_{AGAINST_REFERENCE[column.paired].replace(' ', '_')}",
            f"{column.title} {AGAINST_REFERENCE[column.paired]}",
            large=column.paired == "ratio",
            decimals=column.decimals,
            derived_from=column.name,
        )
        for column in columns
        if column.paired and not column.derived_from
    ]
    return [*columns, *against]


def with_spreads(columns: Iterable[Column]) -> list[Column]:
    """Return the columns as they are of several seeds, each followed by its spread; no value is best."""
    found = []
    for column in columns:
        spread = replace(column, name=column.name + SPREAD, heading=f"{column.title} spread")
        found += [replace(each, better=None, derived_from=None) for each in (column, spread)]
    return found


@dataclass(frozen=True)
class ExtraRows:
    """A source of tables with rows of its own: its name, its columns, and which of its rows are equals.

    The best of a table is the best among those that have the same values in the columns `equals`.
    """

    source: str
    columns: tuple[Column, ...]
    equals: tuple[str, ...]
