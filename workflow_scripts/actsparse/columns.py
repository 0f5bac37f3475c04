"""A column of results, as kinds and benchmarks declare them."""

from dataclasses import dataclass
from typing import Literal

STDERR = "_stderr"


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
            found.append(Column(name, heading, large=True, better=column.better))
    return found


@dataclass(frozen=True)
class ExtraRows:
    """A source of tables with rows of its own: its name, its columns, and which of its rows are equals.

    The best of a table is the best among those that have the same values in the columns `equals`.
    """

    source: str
    columns: tuple[Column, ...]
    equals: tuple[str, ...]
