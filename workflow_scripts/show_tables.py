"""Draw tables in the terminal: python workflow_scripts/show_tables.py results/demo/tables/results.md ..."""

import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def drawn(markdown: str) -> tuple[str, Table]:
    """Return the caption of a table that `report.tables.render` wrote as Markdown, and the table to print.

    Headings are broken at their blanks, cells nowhere.
    """
    caption, _, lines = markdown.partition("\n\n")
    headings, sides, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()
    ]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading, side in zip(headings, sides, strict=True):
        numeric = side.endswith(":")
        table.add_column(heading.replace(" ", "\n"), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell.replace("*", ""), style="bold" if "**" in cell else "") for cell in row))
    return caption, table


def show(paths: list[Path]) -> None:
    """Print each table after its name and caption; one wider than the terminal is not cut."""
    console = Console(highlight=False)
    for path in paths:
        caption, table = drawn(path.read_text())
        console.print(f"\n[bold]{path.stem}[/bold]  {caption}\n")
        needed = console.measure(table, options=console.options.update(width=1000)).maximum
        Console(width=max(console.width, needed)).print(table)


if __name__ == "__main__":
    show([Path(name) for name in sys.argv[1:]])
