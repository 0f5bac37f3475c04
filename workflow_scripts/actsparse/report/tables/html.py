"""A table as one HTML page that sorts by a click on a heading and needs no network."""

import math
from html import escape

from actsparse.report.tables.cells import Cell, Column

LONG = 40  # characters; cells of a column that has longer ones are wrapped

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{name}</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #111; background: #fff; }}
caption {{ text-align: left; max-width: 60em; padding-bottom: .8em; }}
table {{ border-collapse: collapse; border-bottom: 2px solid; }}
thead {{ border-top: 2px solid; border-bottom: 1px solid; }}
th, td {{ padding: .2em .7em; text-align: left; vertical-align: bottom; }}
td {{ white-space: nowrap; }}
td.long {{ white-space: normal; min-width: 16em; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
th button {{ all: unset; cursor: pointer; font-weight: 600; }}
th button:focus-visible {{ outline: 2px solid #0072b2; }}
th button::after {{ content: "\\a0\\2195"; color: #999; }}
th[aria-sort=ascending] button::after {{ content: "\\a0\\2191"; color: #111; }}
th[aria-sort=descending] button::after {{ content: "\\a0\\2193"; color: #111; }}
tbody tr:hover {{ background: #f3f6fa; }}
small {{ color: #555; }}
</style>
<table>
<caption>{caption}</caption>
<thead>
<tr>{headings}</tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
<script>
const heads = [...document.querySelectorAll("th")];
const body = document.querySelector("tbody");
heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {{
  const down = head.getAttribute("aria-sort") === "ascending";
  const numeric = head.classList.contains("number");
  const key = (row) => row.children[index].dataset.sort;
  const compare = (a, b) => {{
    if (a === "" || b === "") return (a === "") - (b === "");  // missing values stay last
    const order = numeric ? a - b : a.localeCompare(b);
    return down ? -order : order;
  }};
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...[...body.children].sort((a, b) => compare(key(a), key(b))));
}}));
</script>
</html>
"""


def html_page(shown: list[Column], caption: str, name: str) -> str:
    """Return the page; the best values are bold."""
    headings = "".join(
        f'<th scope="col"{_kind(column)}><button type="button">{escape(column.heading)}</button></th>'
        for column in shown
    )
    rows = (
        "<tr>" + "".join(_cell(column, column.cells[i]) for column in shown) + "</tr>"
        for i in range(len(shown[0].cells) if shown else 0)
    )
    return PAGE.format(name=escape(name), caption=escape(caption), headings=headings, rows="\n".join(rows))


def _kind(column: Column) -> str:
    if column.numeric:
        return ' class="number"'
    longest = max((len(cell.value) for cell in column.cells), default=0)
    return ' class="long"' if longest > LONG else ""


def _cell(column: Column, cell: Cell) -> str:
    missing = isinstance(cell.sort, float) and math.isnan(cell.sort)
    value = f"<strong>{escape(cell.value)}</strong>" if cell.best else escape(cell.value)
    stderr = f" <small>± {cell.stderr}</small>" if cell.stderr else ""
    key = "" if missing else escape(str(cell.sort), quote=True)
    return f'<td{_kind(column)} data-sort="{key}">{value}{stderr}</td>'
