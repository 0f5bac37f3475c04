"""Published numbers beside ours, with a verdict for each cell."""

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

from actsparse.benchmarks import BENCHMARKS
from actsparse.columns import STDERR
from actsparse.kinds import Kind
from actsparse.report.published import Cell
from actsparse.resources.sources import HubRepo, parse_source
from actsparse.study.tables import benchmark_columns

WITHIN, OUTSIDE = "within tolerance", "outside"
NOT_COMPARABLE, NOT_PUBLISHED = "not comparable", "not published"
VERDICTS = (WITHIN, OUTSIDE, NOT_COMPARABLE, NOT_PUBLISHED)
COUNT = "replaced_linear_layers"
COUNT_AS_PUBLISHED = "replaced_linear_layers_as_published"
# By which fields of a cell an entry of known_differences.yaml is found, besides its row and what was pruned.
MATCHED = ("table", "model", "metric", "source")
COLUMNS = [
    "published_model",
    "row",
    "metric",
    "published",
    "reproduced",
    "difference",
    "verdict",
    "reason",
    "model",
    "experiment",
    "source",
]


def compare(
    rows: pd.DataFrame,
    kinds: dict[tuple[str, str], Kind],
    config: dict[str, Any],
    published: Iterable[Cell],
    tolerances: dict[str, dict[str, Any]],
    known: list[dict[str, Any]],
) -> pd.DataFrame:
    """Return one row per number, published ones first.

    Args:
        rows: what `actsparse.report.tables.sources.evaluations` returns.
        kinds: of each (model, experiment).
        config: the study's, validated.
        published: the cells to compare with.
        tolerances: published/tolerances.yaml.
        known: published/known_differences.yaml.

    `difference` is ours minus the published one; replaced layers are counted as published. `verdict` is
    within tolerance, outside, not comparable (with the reason) or not published.
    """
    found, matched = [], set()
    headline = [column.name for column in benchmark_columns(config) if column.headline]
    hub_names = {name: hub_name(entry["source"]) for name, entry in config["models"].items()}
    for cell in published:
        ours = [name for name, hub in hub_names.items() if hub == cell.model]
        row = counterpart(rows[rows.model.isin(ours)], kinds, cell, known)
        base = {
            "row": cell.row + (f" without {', '.join(cell.left_out)}" if cell.left_out else ""),
            "metric": cell.metric,
            "published": cell.value,
            "published_model": cell.model,
            "source": cell.source,
        }
        if row is None:
            known_model = cell.model in hub_names.values()
            reason = "no such experiment here" if known_model else "the model is not in this study"
            found.append(base | {"verdict": NOT_COMPARABLE, "reason": reason})
            continue
        matched.add((row.model, row.experiment, cell.metric))
        ours = row.get(COUNT_AS_PUBLISHED if cell.metric == COUNT else cell.metric, float("nan"))
        reason = why_not_comparable(cell, config, row.model, kinds[row.model, row.experiment], known)
        if not reason and pd.isna(ours):
            reason = "not measured here, or not finite"
        difference = ours - cell.value
        stderr = row.get(cell.metric + STDERR, 0.0)
        verdict = NOT_COMPARABLE if reason else _verdict(cell, difference, stderr, tolerances)
        ours = {
            "model": row.model,
            "experiment": row.experiment,
            "reproduced": ours,
            "difference": difference,
        }
        found.append(base | ours | {"verdict": verdict, "reason": reason})
    for _, row in rows.iterrows():
        for metric in [*headline, COUNT]:
            if metric in row and (row.model, row.experiment, metric) not in matched:
                word = kinds[row.model, row.experiment].published_row
                ours = {"model": row.model, "experiment": row.experiment, "row": word}
                verdict = {"metric": metric, "reproduced": row[metric], "verdict": NOT_PUBLISHED}
                found.append(ours | verdict)
    return pd.DataFrame(found, columns=COLUMNS)


def why_not_comparable(
    cell: Cell, config: dict[str, Any], model: str, kind: Kind, known: list[dict[str, Any]]
) -> str:
    """Return how our protocol differs from the one a number was published under; "" where it does not."""
    if not kind.as_published and (reason := known_difference(cell, known)):
        return reason
    for word, benchmark in BENCHMARKS.items():
        if word in config and cell.metric in {column.name for column in benchmark.columns(config)}:
            return benchmark.published_otherwise(cell, config, model)
    return ""


def known_difference(cell: Cell, known: list[dict[str, Any]]) -> str:
    """Return why a correct run cannot reproduce a published number; "" where nothing is known against it."""
    for entry in known:
        fits = all(getattr(cell, key) == value for key, value in entry.items() if key in MATCHED)
        fits = fits and re.fullmatch(entry.get("row", ".*"), cell.row)
        pruned = cell.row != "none" and set(entry.get("pruned", [])) - set(cell.left_out)
        if fits and (pruned or "pruned" not in entry):
            return entry["reason"]
    return ""


def hub_name(source: str | list[str]) -> str:
    """Return org/name of hf://org/name@revision; any other source as it is."""
    parsed = parse_source(source)
    return parsed.repo if isinstance(parsed, HubRepo) else str(parsed)


def counterpart(
    rows: pd.DataFrame, kinds: dict[tuple[str, str], Kind], cell: Cell, known: list[dict[str, Any]]
) -> pd.Series | None:
    """Return the row of a model's experiment that a cell is of: same row, same projections, nothing added.

    Where a correct run cannot reproduce the cell, one as published comes first; elsewhere, one that is not.
    """
    found = []
    for _, row in rows.iterrows():
        kind = kinds[row.model, row.experiment]
        same_projections = kind.pattern[0] is None or set(cell.projections) == set(kind.params["projections"])
        if kind.published_row == cell.row and kind.is_plain and same_projections:
            found.append(row)
    wanted = bool(known_difference(cell, known))
    found.sort(key=lambda row: kinds[row.model, row.experiment].as_published != wanted)
    return found[0] if found else None


def _verdict(cell: Cell, difference: float, stderr: float, tolerances: dict[str, dict[str, Any]]) -> str:
    tolerance = tolerances.get(cell.metric, tolerances["accuracy"])
    if tolerance.get("exact"):
        return WITHIN if difference == 0 else OUTSIDE
    allowed = tolerance.get("relative", 0) * abs(cell.value) + tolerance.get("standard_errors", 0) * stderr
    return WITHIN if abs(difference) <= allowed + cell.digit / 2 else OUTSIDE
