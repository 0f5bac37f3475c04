"""Experiments as points of a scatter plot, grouped into series."""

import math
from typing import Any

import pandas as pd

from actsparse.report.figures.data import StudyData
from actsparse.report.figures.style import look
from actsparse.report.tables.records import mean_accuracy, number

# Also the order of colours and markers, so that a method looks the same in all figures.
METHOD_WORDS = {
    "threshold": "threshold (FFN outputs)",
    "codebook": "codebook (FFN outputs)",
    "prune_activations": "pruned activations",
    "prune_weights": "pruned weights",
    "dense": "dense",
}


# What is not said of a series, because it is so unless something else is said.
UNSAID = {"none", "magnitude", "pooled", "coverage", "oracle", "uniform", "dense"}


def series_name(method: str, params: dict[str, Any]) -> str:
    """Return the series of an experiment: its method, in which pattern, and what ranks, corrects or clusters.

    N:M patterns of one sparsity are a series of their own, apart from the unstructured ones of all.
    """
    inputs = method == "threshold" and params.get("side") == "input"
    words = ["threshold (inputs)" if inputs else METHOD_WORDS[method]]
    if ":" in str(params.get("pattern", "")):
        words.append("N:M")
    if method == "codebook":
        words.append(f"s = {params['centroid_sparsity']:g}")
        if params.get("groups", 1) > 1:
            words.append(f"{params['groups']} groups")
        if params.get("joint"):
            words.append("gate and up joint")
    keys = ("scope", "algorithm", "patterns_of", "importance")
    keys += ("assignment", "allocation", "scorer", "mitigation")
    words += [params[key] for key in keys if params.get(key, "none") not in UNSAID]
    return ", ".join(words).replace("_", " ")


def by_method(found: pd.DataFrame):
    """Yield (label, look, members) of each method among points."""
    for place, (method, label) in enumerate(METHOD_WORDS.items()):
        members = found[found.method == method]
        if len(members):
            yield label, look(place), members


POINT_COLUMNS = [
    "experiment",
    "method",
    "series",
    "perplexity",
    "perplexity_stderr",
    "sparsity",
    "accuracy",
    "accuracy_stderr",
]


def points(data: StudyData, model: str) -> pd.DataFrame:
    """Return one row per experiment of a model that has a finite perplexity.

    Columns: experiment, method, series, perplexity, perplexity_stderr, sparsity (realised), accuracy (mean
    over tasks) and accuracy_stderr; the latter two are NaN without zero-shot results.
    """
    rows = []
    for experiment, records in data.of_model(model).items():
        record = records.get("perplexity", {})
        perplexity = number(record.get("value"))
        if math.isfinite(perplexity):
            accuracy, stderr = mean_accuracy(records)
            rows.append(
                {
                    "experiment": experiment,
                    "method": record["method"],
                    "series": series_name(record["method"], record["params"]),
                    "perplexity": perplexity,
                    "perplexity_stderr": number(record.get("stderr")),
                    "sparsity": record["realised_sparsity"],
                    "accuracy": accuracy,
                    "accuracy_stderr": stderr,
                }
            )
    # Named, because there may be no row: a model whose perplexities are all NaN.
    return pd.DataFrame(rows, columns=POINT_COLUMNS)
