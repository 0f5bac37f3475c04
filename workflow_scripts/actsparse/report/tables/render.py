"""A table as files: CSV with all digits; Markdown, LaTeX and HTML rounded; the same rows in each."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from actsparse.columns import Column as Known
from actsparse.jobs.files import atomic_path
from actsparse.report.tables.cells import Cell, Column, best_values, columns, common_to_all_rows
from actsparse.report.tables.html import html_page
from actsparse.report.tables.latex import latex_table

if TYPE_CHECKING:
    from actsparse.report.tables.comparisons import Paired

BOLD = "Bold: the best among equals, and what a paired test at 5 % does not tell from it."


def write_table(
    table: pd.DataFrame,
    rows: pd.DataFrame,
    declared: dict,
    known: dict[str, Known],
    name: str,
    folder: Path,
    paired: "Paired | None" = None,
) -> None:
    """Write `<folder>/<name>.csv`, `.md`, `.tex` and `.html`, each atomically.

    `table` was chosen from `rows` as `declared` says; `known` are the columns of their source. What all rows
    have in common is a column of the CSV and stands in the caption of the others. Given the results as
    `paired`, what is not told from the best counts as best.
    """
    named = headings(table, declared["columns"], known)
    common = common_to_all_rows(table)
    best = best_values(table, rows, known, declared.get("source", ""), paired)
    bold = [BOLD] if paired is not None and paired.has_pairs and best.to_numpy().any() else []
    caption = " ".join([declared["caption"], *bold, *told(common, named)])
    shown = columns(table.drop(columns=list(common)), best, known, named)
    for suffix, text in (
        ("csv", csv_text(table)),
        ("md", f"{caption}\n\n{markdown_table(shown)}"),
        ("tex", latex_table(shown, caption, name)),
        ("html", html_page(shown, caption, name)),
    ):
        with atomic_path(Path(folder) / f"{name}.{suffix}") as temporary:
            temporary.write_text(text)


def headings(
    table: pd.DataFrame, given: dict[str, str] | list[str], known: dict[str, Known]
) -> dict[str, str]:
    """Return {column: heading}: the given one, else the column's own."""
    own = {name: known[name].title if name in known else name for name in table}
    return own | (given if isinstance(given, dict) else {})


def told(common: dict[str, str], named: dict[str, str]) -> list[str]:
    """Return what all rows have in common as a sentence of a caption; none where they have nothing.

    What is true of no row goes without saying.
    """
    words = [f"{named.get(name, name)} {value}" for name, value in common.items() if value != "False"]
    return [f"Throughout: {', '.join(words)}."] if words else []


def csv_text(table: pd.DataFrame) -> str:
    """Return CSV with all digits; a number that is missing or not finite is nan, a missing word is empty."""
    words = table.select_dtypes(exclude="number").columns
    filled = table.astype(dict.fromkeys(words, object)).fillna(dict.fromkeys(words, ""))
    return filled.to_csv(index=False, na_rep="nan")


def markdown_table(shown: list[Column]) -> str:
    """Return a Markdown table, aligned so that it reads well as plain text too; the best values are bold."""
    texts = [[_markdown_cell(cell) for cell in column.cells] for column in shown]
    widths = [
        max(map(len, [column.heading, "---", *cells])) for column, cells in zip(shown, texts, strict=True)
    ]
    rules = [
        "-" * (width - 1) + ":" if c.numeric else "-" * width for c, width in zip(shown, widths, strict=True)
    ]
    rows = [[column.heading for column in shown], rules, *zip(*texts, strict=True)]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if column.numeric else text.ljust(width)
            for text, width, column in zip(row, widths, shown, strict=True)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: Cell) -> str:
    value = f"**{cell.value}**" if cell.best else cell.value
    return f"{value} ± {cell.stderr}" if cell.stderr else value
