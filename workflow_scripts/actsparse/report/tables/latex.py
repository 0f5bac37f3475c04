"""A table in LaTeX: booktabs, the best value bold, standard errors small."""

from actsparse.report.tables.cells import MISSING, Cell, Column

ROWS_OF_A_PAGE = 45
SPECIAL = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    MISSING: "--",
}


def latex_table(shown: list[Column], caption: str, name: str) -> str:
    """Return a table with the label tab:<name>; needs booktabs, and longtable for more than a page."""
    sides = "".join("r" if column.numeric else "l" for column in shown)
    rows = [" & ".join(map(_cell, cells)) + r" \\" for cells in zip(*(c.cells for c in shown), strict=True)]
    head = [r"\toprule", " & ".join(escape(column.heading) for column in shown) + r" \\", r"\midrule"]
    captioned = [rf"\caption{{{escape(caption)}}}", rf"\label{{tab:{name}}}"]
    if len(rows) > ROWS_OF_A_PAGE:
        begin = [rf"\begin{{longtable}}{{{sides}}}", *captioned, r"\\"]
        lines = [*begin, *head, r"\endhead", *rows, r"\bottomrule", r"\end{longtable}"]
    else:
        begin = [r"\begin{table}", r"\centering", *captioned, rf"\begin{{tabular}}{{{sides}}}"]
        lines = [*begin, *head, *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join([*lines, ""])


def escape(text: str) -> str:
    """Return plain text as LaTeX."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _cell(cell: Cell) -> str:
    value = rf"\textbf{{{escape(cell.value)}}}" if cell.best else escape(cell.value)
    return value + (rf" {{\scriptsize $\pm$ {cell.stderr}}}" if cell.stderr else "")
