"""A table in LaTeX: booktabs, the best value bold, standard errors small."""

from actsparse.tables.cells import MISSING, Cell, Column

SPECIAL = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    MISSING: "--",
}


def latex_table(shown: list[Column], caption: str, name: str) -> str:
    """Return a table environment with the label tab:<name>; needs the package booktabs."""
    sides = "".join("r" if column.numeric else "l" for column in shown)
    rows = [" & ".join(map(_cell, cells)) + r" \\" for cells in zip(*(c.cells for c in shown), strict=True)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{tab:{name}}}",
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            " & ".join(escape(column.heading) for column in shown) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Return plain text as LaTeX."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _cell(cell: Cell) -> str:
    value = rf"\textbf{{{escape(cell.value)}}}" if cell.best else escape(cell.value)
    return value + (rf" {{\scriptsize $\pm$ {cell.stderr}}}" if cell.stderr else "")
