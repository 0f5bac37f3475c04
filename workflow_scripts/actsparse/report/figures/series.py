"""Experiments as points of a scatter plot, grouped into series."""

import math
from collections.abc import Iterator

import pandas as pd

from actsparse.jobs.files import number
from actsparse.kinds import KINDS
from actsparse.report.figures.data import StudyData
from actsparse.report.figures.style import look
from actsparse.report.tables.records import applied, kind_of, numbers, without_seed


def by_kind(found: pd.DataFrame) -> Iterator[tuple[str, dict[str, str], pd.DataFrame]]:
    """Yield (label, look, members) of each kind among points; a kind looks the same in all figures."""
    for place, (word, kind) in enumerate(KINDS.items()):
        members = found[found.method == word]
        if len(members):
            yield kind.legend, look(place), members


def points(data: StudyData, model: str, column: str) -> pd.DataFrame:
    """Return one row per experiment of a model whose `column` is finite.

    Columns: experiment, repeats (its name without the seed), method, series, sparsity (realised), and all of
    the benchmarks with their `_stderr`; NaN where an experiment lacks them.
    """
    rows = []
    for experiment, records in data.of_model(model).items():
        measured, kind = numbers(records), kind_of(records)
        if math.isfinite(measured.get(column, math.nan)):
            rows.append(
                {
                    "experiment": experiment,
                    "repeats": without_seed(experiment, kind),
                    "method": kind.word,
                    "series": ", ".join(kind.series()).replace("_", " "),
                    "sparsity": number(applied(records).get("realised_sparsity")),
                    **measured,
                }
            )
    # Named, because there may be no row: a model whose numbers are all NaN.
    named = ["experiment", "repeats", "method", "series", "sparsity"]
    more = [f"{name}{suffix}" for name in data.columns for suffix in ("", "_stderr")]
    return pd.DataFrame(rows, columns=[*named, *more])


def over_seeds(found: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return one row for the points that differ in their seeds alone.

    Columns: series, sparsity and `column`, which are means over the seeds, and spread, the standard
    deviation of one seed; 0 where there is one.
    """
    repeated = found.groupby("repeats", sort=False)
    averaged = repeated.agg({"series": "first", "sparsity": "mean", column: "mean"})
    return averaged.assign(spread=repeated[column].std(ddof=1).fillna(0.0)).reset_index(drop=True)
