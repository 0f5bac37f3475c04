"""Tables as the config declares them: those that every study gets, and a study's own. Imports no pandas."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

# Columns of each source beside tasks (evaluations), parameters of methods (evaluations, codebooks) and
# projections (thresholds).
COLUMNS = {
    "evaluations": {
        *("model", "experiment", "method", "pruning", "perplexity", "perplexity_over_dense", "tasks"),
        *("mean_accuracy", "target_sparsity", "realised_sparsity", "replaced_linear_layers"),
        *("replaced_linear_layers_as_published", "runtime_min", "peak_memory_mb"),
    },
    "codebooks": {
        *("model", "experiment", "projection", "recall", "precision", "baseline_recall", "energy"),
        *("accuracy", "perplexity", "realised_sparsity", "fitting_recall"),
        *("router_parameters", "router_multiply_adds", "ffn_multiply_adds"),
    },
    "thresholds": {
        *("model", "sparsity", "counted", "layer", "q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    },
}

# What a column is called where its name is not a word.
HEADINGS = {
    "perplexity_over_dense": "perplexity over dense",
    "mean_accuracy": "mean accuracy",
    "target_sparsity": "target sparsity",
    "realised_sparsity": "realised sparsity",
    "replaced_linear_layers": "replaced linear layers",
    "replaced_linear_layers_as_published": "replaced linear layers (published count)",
    "runtime_min": "runtime (min)",
    "peak_memory_mb": "peak memory (MB)",
    "baseline_recall": "recall of one centroid",
    "fitting_recall": "recall of fitted patterns",
    "energy": "energy kept",
    "accuracy": "router accuracy",
    "router_parameters": "router parameters",
    "router_multiply_adds": "router multiply-adds",
    "ffn_multiply_adds": "FFN multiply-adds",
    "as_published": "as published",
    "patterns_of": "patterns of",
    "clusters": "K",
    "centroid_sparsity": "centroid sparsity",
}


def declared_tables(
    defaults: str | Path,
    own: dict[str, dict[str, Any]],
    sources: set[str],
    methods: set[str],
    models: Iterable[str],
) -> dict[str, dict[str, Any]]:
    """Return {table: declaration} of all tables that a study with these sources and methods has rows for.

    `defaults` is the file of those that every study gets. A declaration with `each_model` becomes one table
    for each model, named `<table>-<model>`.
    """
    tables = {}
    for name, declared in (yaml.safe_load(Path(defaults).read_text()) | own).items():
        if declared["source"] not in sources or not methods & set(declared.get("needs", methods)):
            continue
        if not declared.get("each_model"):
            tables[name] = declared
            continue
        for model in models:
            where = declared.get("where", {}) | {"model": [model]}
            caption = declared["caption"].replace("{model}", model)
            tables[f"{name}-{model}"] = declared | {"where": where, "caption": caption}
    return tables


def known_columns(source: str, tasks: Iterable[str], params: Iterable[str]) -> set[str]:
    """Return the columns that a table of this source may name in a study with these tasks and parameters."""
    more = {"evaluations": {*tasks, *params}, "codebooks": set(params)}
    return COLUMNS[source] | more.get(source, set())


def headings(declared: dict[str, Any]) -> dict[str, str]:
    """Return {column: heading} of a declaration; a column that is given none has that of HEADINGS."""
    columns = declared["columns"]
    given = columns if isinstance(columns, dict) else {}
    return {column: given.get(column, HEADINGS.get(column, column)) for column in columns}
