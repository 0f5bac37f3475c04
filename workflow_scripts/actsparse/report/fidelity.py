"""Published numbers beside ours, with a verdict for each cell."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from actsparse.report.published import Cell
from actsparse.report.tables.sources import STDERR

WITHIN, OUTSIDE = "within tolerance", "outside"
NOT_COMPARABLE, NOT_PUBLISHED = "not comparable", "not published"
VERDICTS = (WITHIN, OUTSIDE, NOT_COMPARABLE, NOT_PUBLISHED)
PERPLEXITY, COUNT = "perplexity", "replaced_linear_layers"
COUNT_AS_PUBLISHED = "replaced_linear_layers_as_published"
# By which fields of a cell an entry of known_differences.yaml is found, besides what was pruned.
MATCHED = ("table", "model", "row", "metric", "source")
WIKITEXT = "wikitext-2-raw-v1"
WINDOW = 2048
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
    params: dict[tuple[str, str], dict[str, Any]],
    config: dict[str, Any],
    published: Iterable[Cell],
    tolerances: dict[str, dict[str, Any]],
    known: list[dict[str, Any]],
) -> pd.DataFrame:
    """Return one row per number, published ones first.

    Args:
        rows: what `actsparse.report.tables.sources.evaluations` returns.
        params: of each (model, experiment).
        config: the study's, validated.
        published: the cells to compare with.
        tolerances: published/tolerances.yaml.
        known: published/known_differences.yaml.

    `difference` is ours minus the published one; replaced layers are counted as published. `verdict` is
    within tolerance, outside, not comparable (with the reason) or not published.
    """
    found, matched = [], set()
    hub_names = {name: hub_name(entry["source"]) for name, entry in config["models"].items()}
    for cell in published:
        row = _counterpart(rows, params, hub_names, cell, known)
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
        reason = why_not_comparable(cell, config, row.model, params[row.model, row.experiment], known)
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
        for metric in [PERPLEXITY, *config.get("zero_shot", {}).get("tasks", []), COUNT]:
            if metric in row and (row.model, row.experiment, metric) not in matched:
                ours = {"model": row.model, "experiment": row.experiment, "row": row_word(row)}
                verdict = {"metric": metric, "reproduced": row[metric], "verdict": NOT_PUBLISHED}
                found.append(ours | verdict)
    return pd.DataFrame(found, columns=COLUMNS)


def why_not_comparable(
    cell: Cell, config: dict[str, Any], model: str, params: dict[str, Any], known: list[dict[str, Any]]
) -> str:
    """Return how our protocol differs from the one a number was published under; "" where it does not."""
    if not params.get("as_published") and (reason := known_difference(cell, known)):
        return reason
    if cell.metric == PERPLEXITY:
        use = config["perplexity"]
        if (config["corpora"][use["corpus"]].get("name"), use["split"]) != (WIKITEXT, "test"):
            return f"published on {WIKITEXT} (test), ours on {use['corpus']} ({use['split']})"
        if use["sequence_length"] != WINDOW or use["sequences"] is not None:
            return f"published on all windows of {WINDOW} tokens"
    elif cell.metric != COUNT:
        zero_shot = config.get("zero_shot", {})
        if zero_shot.get("limit") is not None:
            return f"published on all items, ours on the first {zero_shot['limit']}"
        ours = config["models"][model].get("apply_chat_template")
        ours = zero_shot.get("apply_chat_template", False) if ours is None else ours
        if ours != cell.chat_template:
            return f"published {'with' if cell.chat_template else 'without'} the chat template"
    return ""


def known_difference(cell: Cell, known: list[dict[str, Any]]) -> str:
    """Return why a correct run cannot reproduce a published number; "" where nothing is known against it."""
    for entry in known:
        fits = all(getattr(cell, key) == value for key, value in entry.items() if key in MATCHED)
        pruned = cell.row != "none" and set(entry.get("pruned", [])) - set(cell.left_out)
        if fits and (pruned or "pruned" not in entry):
            return entry["reason"]
    return ""


def hub_name(source: str) -> str:
    """Return org/name of hf://org/name@revision; any other source as it is."""
    return source.removeprefix("hf://").partition("@")[0] if source.startswith("hf://") else source


def row_word(row: pd.Series) -> str:
    """Return the row of a published table that an experiment belongs to."""
    return f"threshold {row.sparsity:g}" if row.method == "threshold" else row.pruning


def is_plain(params: dict[str, Any]) -> bool:
    """Whether an experiment ranks by magnitude, corrects nothing, takes all layers: as published rows do."""
    defaults = {"scorer": "magnitude", "mitigation": "none", "layers": None, "side": "output"}
    return all(params.get(key, default) == default for key, default in defaults.items())


def _counterpart(
    rows: pd.DataFrame, params: dict, hub_names: dict[str, str], cell: Cell, known: list[dict[str, Any]]
) -> pd.Series | None:
    """Return the experiment that a cell is of; where a correct run cannot reproduce it, one as published."""
    found = []
    for _, row in rows.iterrows():
        spec = params[row.model, row.experiment]
        same_projections = "pattern" not in spec or set(cell.projections) == set(spec["projections"])
        if (
            hub_names[row.model] == cell.model
            and row_word(row) == cell.row
            and is_plain(spec)
            and same_projections
        ):
            found.append(row)
    wanted = bool(known_difference(cell, known))
    found.sort(key=lambda row: params[row.model, row.experiment].get("as_published", False) != wanted)
    return found[0] if found else None


def _verdict(cell: Cell, difference: float, stderr: float, tolerances: dict[str, dict[str, Any]]) -> str:
    tolerance = tolerances.get(cell.metric, tolerances["accuracy"])
    if tolerance.get("exact"):
        return WITHIN if difference == 0 else OUTSIDE
    allowed = tolerance.get("relative", 0) * abs(cell.value) + tolerance.get("standard_errors", 0) * stderr
    return WITHIN if abs(difference) <= allowed + cell.digit / 2 else OUTSIDE
