"""Tables as the config declares them: those that every study gets, and a study's own. Imports no pandas."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from actsparse.benchmarks import BENCHMARKS
from actsparse.columns import Column, with_ratios, with_references, with_spreads
from actsparse.kinds import KINDS

# What a table shows of every experiment, whatever its kind, and whatever it is measured by.
EXPERIMENT = (
    Column("model"),
    Column("experiment"),
    Column("method"),
    Column("pruning"),
    Column("target_sparsity", "target sparsity"),
    Column("realised_sparsity", "realised sparsity"),
    Column("covered_macs", "covered multiply-adds"),
    Column("replaced_linear_layers", "replaced linear layers"),
    Column("replaced_linear_layers_as_published", "replaced linear layers (published count)"),
    Column("runtime_min", "runtime (min)", decimals=2),
    Column("peak_memory_mb", "peak memory (MB)", decimals=0),
)
THRESHOLDS = (
    *(Column("model"), Column("sparsity", decimals=2), Column("counted"), Column("layer")),
    # Which may be small.
    *(Column(f"{word}_proj", decimals=4) for word in ("q", "k", "v", "o", "gate", "up", "down")),
)
# Of each experiment with its reference.
COMPARISONS = (
    *(Column("model"), Column("experiment"), Column("reference"), Column("metric"), Column("compared")),
    Column("estimate", "ratio or difference", large=True),
    Column("low", "95 % from", large=True),
    Column("high", "to", large=True),
    Column("interval"),
    Column("p", significant=2),
    Column("p_holm", "p (Holm)", significant=2),
    *(Column("test"), Column("pairs"), Column("draws", "independent"), Column("resampled", "which are")),
)
# Parameters of experiments whose name says too little, or whose digits are not the usual three.
PARAMETERS = (
    Column("as_published", "as published"),
    Column("patterns_of", "patterns of"),
    Column("clusters", "K"),
    Column("centroid_sparsity", "centroid sparsity", decimals=2),
    Column("sparsity", decimals=2),
)
# Stands for the headline columns of all benchmarks.
ALL_BENCHMARKS = "benchmarks"


def benchmark_columns(config: dict[str, Any], records: dict[str, list[dict]] | None = None) -> list[Column]:
    """Return the columns of all benchmarks of a study, given their results by benchmark, if there are any."""
    return [
        column
        for word, benchmark in BENCHMARKS.items()
        if word in config
        for column in with_ratios(benchmark.columns(config, (records or {}).get(word, ())))
    ]


def known_columns(
    source: str, config: dict[str, Any], records: dict[str, list[dict]] | None = None
) -> dict[str, Column]:
    """Return the columns of a source, parameters of experiments aside, by name."""
    measured = benchmark_columns(config, records)
    extra = [Column("projection")]
    for kind in KINDS.values():
        if kind.extra_rows and kind.extra_rows.source == source:
            extra += kind.extra_rows.columns
    found = {
        "evaluations": [*EXPERIMENT, *with_references(measured)],
        "seeds": [*EXPERIMENT[:5], Column("seeds"), *with_spreads([EXPERIMENT[5], *measured])],
        "thresholds": THRESHOLDS,
        "comparisons": COMPARISONS,
    }.get(source, [*EXPERIMENT[:2], EXPERIMENT[5], *extra, *measured])
    return {column.name: column for column in (*PARAMETERS, *found)}


def stands_for(word: str, config: dict[str, Any]) -> list[str]:
    """Return the columns that a word of a table's `columns` stands for, in a study."""
    found = []
    for key, benchmark in BENCHMARKS.items():
        if key in config and word in (ALL_BENCHMARKS, benchmark.group):
            found += [column.name for column in benchmark.columns(config) if column.headline]
    return found or [word]


def allowed_columns(source: str, config: dict[str, Any], params: Iterable[str]) -> set[str]:
    """Return the words that a table of this source may name, experiments having these parameters."""
    if source == "comparisons":
        return {column.name for column in COMPARISONS}
    groups = {ALL_BENCHMARKS, *(benchmark.group for benchmark in BENCHMARKS.values())} - {None}
    of_parameters = {column.name for column in PARAMETERS}
    fixed = known_columns(source, config).keys() - of_parameters
    return fixed | groups | (set(params) if source != "thresholds" else {"sparsity"})


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
