"""The items of tasks that a result keeps, as what accuracies are the means of."""

from array import array
from typing import Any

from actsparse.observations import Observations

# {(task, metric): its weight in a number}
Weights = dict[tuple[str, str], float]


def observed_items(record: dict[str, Any], plain: str) -> dict[str, Observations]:
    """Return the items of each task of a result by its headline metric, `plain` where none is said, and those
    that its groups and `mean_accuracy` are of.

    What is the mean of a task that kept no items is not there.
    """
    headline = record.get("headline", {})
    weights: dict[str, Weights] = {task: {(task, headline.get(task, plain)): 1.0} for task in record["tasks"]}
    for name, shares in record.get("group_weights", {}).items():
        weights[name] = {(task, headline[name]): share for task, share in shares.items()}
    counted = record.get("counted", list(record["tasks"]))
    if weights.keys() >= set(counted):
        mean: Weights = {}
        for part, share in (entry for name in counted for entry in weights[name].items()):
            mean[part] = mean.get(part, 0.0) + share / len(counted)
        weights["mean_accuracy"] = mean
    found = {name: _observed(record, parts) for name, parts in weights.items()}
    return {name: items for name, items in found.items() if items is not None}


def _observed(record: dict[str, Any], weights: Weights) -> Observations | None:
    """Return the items of a weighted sum of metrics; None where those of some are not kept.

    They are packed: a study has millions.
    """
    values, parts = array("d"), []
    for part in weights:
        task, metric = part
        kept = record.get("per_item", {}).get(task, {}).get(metric)
        if kept is None:
            return None
        values.extend(map(float, kept))
        parts += [part] * len(kept)
    source = record.get("inputs", {}).get("tasks")
    if len(weights) == 1:
        return Observations(values, "items", source=source)
    return Observations(values, "items", parts=parts, weights=weights, source=source)
