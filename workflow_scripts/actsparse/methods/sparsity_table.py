"""A table of sparsities, one for each projection of each decoder layer. No torch here."""

import csv
from pathlib import Path

SparsityTable = dict[str, dict[str, float]]

# What the name of such a file ends in.
TABLE_SUFFIX = ".csv"


def read_sparsity_table(source: str | Path) -> SparsityTable:
    """Return {projection: {"layer_<i>": sparsity}} of a CSV file.

    Its columns are `layer`, counted from 0, and projections; its cells sparsities in [0, 1). Raises
    ValueError that names the file, the line and the cell that is not so.
    """
    with Path(source).open(newline="") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        columns = reader.fieldnames or []
        if "layer" not in columns or len(columns) < 2:
            raise ValueError(f"{source}: its first line must name the columns layer and projections")
        table: SparsityTable = {column: {} for column in columns if column != "layer"}
        seen: set[str] = set()
        for row in reader:
            where = f"{source}, line {reader.line_num}"
            layer = row["layer"]
            if not layer.isdecimal() or layer in seen:
                raise ValueError(f"{where}: layer {layer!r} is not allowed (a number from 0 on, each once)")
            seen.add(layer)
            for projection, levels in table.items():
                levels[f"layer_{int(layer)}"] = _sparsity(row[projection], f"{where}, {projection}")
    return table


def _sparsity(cell: str | None, where: str) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value < 1:
        raise ValueError(f"{where}: {cell!r} is not allowed (a sparsity from 0 to below 1)")
    return value
