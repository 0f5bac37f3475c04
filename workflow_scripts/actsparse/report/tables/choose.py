"""The rows and columns of a source that a table asks for."""

from typing import Any

import pandas as pd

from actsparse.columns import SPREAD, STDERR
from actsparse.study.tables import stands_for


def choose(rows: pd.DataFrame, declared: dict[str, Any], config: dict[str, Any]) -> pd.DataFrame:
    """Return the rows and columns that a declaration asks for, under the source's own index and column names.

    Columns that this study does not have are left out. With `standard_errors`, the columns `<metric>_stderr`
    follow theirs, and those of several seeds are followed by their spread. Rows that are equal in the columns
    of `order` keep their order.
    """
    chosen = rows
    for column, allowed in declared.get("where", {}).items():
        chosen = chosen[chosen[column].isin(allowed)] if column in chosen else chosen.iloc[:0]
    if declared.get("order"):
        chosen = chosen.sort_values([c for c in declared["order"] if c in chosen], kind="stable")
    columns = []
    for column in declared["columns"]:
        for name in stands_for(column, config):
            columns += [name, name + SPREAD]
            if declared.get("standard_errors"):
                columns.append(name + STDERR)
    return chosen[[column for column in columns if column in chosen]]
