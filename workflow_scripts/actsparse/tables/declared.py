"""Tables as the config declares them: those that every study gets, and a study's own. Imports no pandas."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml


def declared_tables(
    defaults: str | Path, own: dict[str, dict[str, Any]], methods: set[str], models: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return {table: declaration} of all tables that a study with these methods and models has rows for.

    `defaults` is the file of those that every study gets. A declaration with `each_model` becomes one table
    for each model, named `<table>-<model>`.
    """
    tables = {}
    for name, declared in (yaml.safe_load(Path(defaults).read_text()) | own).items():
        if not _has_rows(declared, methods):
            continue
        if not declared.get("each_model"):
            tables[name] = declared
            continue
        for model in models:
            where = declared.get("where", {}) | {"model": [model]}
            caption = declared["caption"].replace("{model}", model)
            tables[f"{name}-{model}"] = declared | {"where": where, "caption": caption}
    return tables


def headings(declared: dict[str, Any]) -> dict[str, str]:
    """Return {column: heading} of a declaration; columns given as a list are their own headings."""
    columns = declared["columns"]
    return columns if isinstance(columns, dict) else {column: column for column in columns}


def _has_rows(declared: dict[str, Any], methods: set[str]) -> bool:
    if "needs" in declared:
        return bool(methods & set(declared["needs"]))
    if declared["source"] == "codebooks":
        return "codebook" in methods
    if declared["source"] == "thresholds":
        return bool(methods & {"threshold", "codebook"})
    return True
