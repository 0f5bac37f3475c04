"""Figures of a study: one module per figure, with a function `draw(data, *columns) -> matplotlib Figure`.

A module that says what it `NEEDS` draws one figure, of every study that has these things; a benchmark asks
for the others, of its columns. Each has a caption of the module's name in rules/captions/.
"""

from pathlib import Path
from typing import Any

from actsparse.benchmarks import BENCHMARKS
from actsparse.registry import literals
from actsparse.study.tables import benchmark_columns


def figures_of(config: dict[str, Any], measured: set[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return {figure: (its module, its columns)} of a study with a validated config.

    `measured` are the sources of tables and other things that it has data for.
    """
    figures: dict[str, tuple[str, tuple[str, ...]]] = {}
    asked = {word: benchmark for word, benchmark in BENCHMARKS.items() if word in config}
    columns = {column.name for column in benchmark_columns(config)}
    for benchmark in asked.values():
        if (column := benchmark.ranked) in columns:
            figures[f"{column}_ranking"] = ("ranking", (column,))
        if (column := benchmark.against_sparsity) in columns:
            figures[f"{column}_sparsity"] = ("against_sparsity", (column,))
        figures |= {
            name: ("against", pair) for name, pair in benchmark.against.items() if columns.issuperset(pair)
        }
    for path in sorted(Path(__file__).parent.glob("*.py")):
        needed = literals(path).get("NEEDS")
        if needed and needed <= measured | asked.keys():
            figures[path.stem] = (path.stem, ())
    return figures
