"""A table as files: CSV with all digits; Markdown, LaTeX and HTML rounded; the same rows in each."""

from pathlib import Path

import pandas as pd

from actsparse.files import atomic_path
from actsparse.tables.cells import Column, best_values, columns
from actsparse.tables.declared import headings
from actsparse.tables.html import html_page
from actsparse.tables.latex import latex_table


def write_table(
    table: pd.DataFrame, rows: pd.DataFrame, declared: dict, name: str, tasks: list[str], folder: Path
) -> None:
    """Write `<folder>/<name>.csv`, `.md`, `.tex` and `.html`, each atomically.

    `table` was chosen from `rows` as `declared` says.
    """
    best = best_values(table, rows, tasks)
    shown = columns(table, best, headings(declared))
    for suffix, text in (
        ("csv", csv_text(table)),
        ("md", markdown_table(shown)),
        ("tex", latex_table(shown, declared["caption"], name)),
        ("html", html_page(shown, declared["caption"], name)),
    ):
        with atomic_path(Path(folder) / f"{name}.{suffix}") as temporary:
            temporary.write_text(text)


def csv_text(table: pd.DataFrame) -> str:
    """Return CSV with all digits; a number that is missing or not finite is nan, a missing word is empty."""
    words = table.select_dtypes(exclude="number").columns
    filled = table.astype(dict.fromkeys(words, object)).fillna(dict.fromkeys(words, ""))
    return filled.to_csv(index=False, na_rep="nan")


def markdown_table(shown: list[Column]) -> str:
    """Return a Markdown table, aligned so that it reads well as plain text too."""
    texts = [
        [f"{cell.value} ± {cell.stderr}" if cell.stderr else cell.value for cell in column.cells]
        for column in shown
    ]
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
