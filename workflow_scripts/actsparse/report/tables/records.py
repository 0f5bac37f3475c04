"""The result JSONs of a study, and the numbers that tables and figures take from them."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from actsparse.jobs.files import read_json

HEADLINE_METRIC = "acc"

Records = dict[str, dict[str, Any]]
Results = dict[tuple[str, str], Records]


def read_results(paths: Iterable[str | Path]) -> Results:
    """Return {(model, experiment): {benchmark: record}} in the order of `paths`."""
    results: Results = {}
    for path in paths:
        record = read_json(path)
        results.setdefault((record["model"], record["experiment"]), {})[record["benchmark"]] = record
    return results


def number(value: float | None) -> float:
    """Return a value of a JSON as a float; null (not finite, or not measured) is NaN."""
    return math.nan if value is None else value


def accuracies(records: Records) -> dict[str, tuple[float, float]]:
    """Return {task: (accuracy, its standard error)}; empty without zero-shot results."""
    found = {}
    for task, metrics in records.get("zero_shot", {}).get("tasks", {}).items():
        headline = metrics[HEADLINE_METRIC]
        found[task] = (number(headline["value"]), number(headline.get("stderr")))
    return found


def mean_accuracy(records: Records) -> tuple[float, float]:
    """Return the mean accuracy over tasks and its standard error, the tasks taken as independent."""
    found = accuracies(records)
    if not found:
        return math.nan, math.nan
    values, errors = zip(*found.values(), strict=True)
    return sum(values) / len(found), math.sqrt(sum(error**2 for error in errors)) / len(found)
