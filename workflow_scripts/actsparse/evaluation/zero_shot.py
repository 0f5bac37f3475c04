"""Zero-shot accuracy through lm_eval: its tasks, prompts and metrics, with the items fetched before."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr, unweighted_mean_stderr
from lm_eval.models.huggingface import HFLM

from actsparse.resources.tasks import task_config, task_manager


def measure_zero_shot(
    model,
    tokenizer,
    tasks: Sequence[Path],
    *,
    limit: int | None,
    num_fewshot: int,
    apply_chat_template: bool,
    batch_size: int,
    seed: int,
    groups: dict[str, dict[str, Any]] | None = None,
    counted: list[str] | None = None,
) -> dict[str, Any]:
    """Run lm_eval on the fetched `tasks` (folders).

    Returns {"tasks": {task: {"items", metric: {"value", "stderr"}}}, "headline": {task: metric}}, each task
    with all the metrics that its definition has, named as lm_eval names them without the filter ("acc",
    "acc_norm"), and with the one that stands for it, and {"per_item": {task: see `per_item`}}. With `groups`,
    also {"groups": {group: {"items", metric: {"value", "stderr"}}}, "group_weights": {group: {task: its part
    of the group's headline metric}}, "counted": which of all are counted in a mean}.
    """
    outcome = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=[task_config(folder) for folder in tasks],
        task_manager=task_manager(tasks),
        num_fewshot=num_fewshot,
        limit=limit,
        apply_chat_template=apply_chat_template,
        log_samples=True,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    tasks = outcome["results"]
    items = {task: outcome["n-samples"][task]["effective"] for task in tasks}
    headline = {task: headline_metric(outcome["configs"][task]["metric_list"]) for task in tasks}
    measured = {task: {"items": items[task], **_metrics(values)} for task, values in tasks.items()}
    per_task = {task: per_item(outcome["samples"][task], measured[task]) for task in tasks}
    if not groups:
        return {"tasks": measured, "headline": headline, "per_item": per_task}
    return {
        "tasks": measured,
        "per_item": per_task,
        "groups": {name: group_metrics(name, about, tasks, items) for name, about in groups.items()},
        "group_weights": {name: group_weights(about, measured, items) for name, about in groups.items()},
        "headline": headline | {name: headline_metric(about["metrics"]) for name, about in groups.items()},
        "counted": counted,
    }


def per_item(samples: list[dict[str, Any]], metrics: dict[str, Any]) -> dict[str, str | list[float]]:
    """Return {metric: its value of each item, in the order of the task's items}, of a task's lm_eval samples.

    Zeros and ones are one text of digits, which is a hundredth of lm_eval's own log. A metric that is no mean
    over items is left out. Of several filters, the first one counts, as in `metrics`.
    """
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    first.sort(key=lambda sample: sample["doc_id"])
    found: dict[str, str | list[float]] = {}
    for metric, about in metrics.items():
        values = [sample.get(metric) for sample in first]
        if metric == "items" or not all(isinstance(value, int | float) for value in values):
            continue
        if not math.isclose(math.fsum(values) / len(values), about.get("value", math.nan), abs_tol=1e-9):
            continue
        binary = set(values) <= {0, 1}
        found[metric] = "".join(f"{value:.0f}" for value in values) if binary else list(map(float, values))
    return found


def group_metrics(
    name: str, about: dict[str, Any], results: dict[str, dict[str, Any]], items: dict[str, int]
) -> dict[str, Any]:
    """Return {"items", metric: {"value", "stderr"}} of a group: means over its tasks as lm_eval defines them.

    They are weighted by the tasks' items or not; tasks without the metric do not count. Of several filters,
    the first one counts. `results` are lm_eval's of each task, `items` how many of each were scored. Raises
    ValueError where no task has a metric.
    """
    found: dict[str, Any] = {"items": sum(items[task] for task in about["tasks"])}
    filters = sorted(
        {key.partition(",")[2] for task in about["tasks"] for key in results[task] if "," in key}
    )
    for one in about["metrics"]:
        metric, weighted = one["metric"], one.get("weight_by_size", True)
        for filtered in one.get("filter_list") or filters:
            having = [task for task in about["tasks"] if f"{metric},{filtered}" in results[task]]
            if not having or metric in found:
                continue
            sizes = [items[task] for task in having]
            values = [results[task][f"{metric},{filtered}"] for task in having]
            errors = [results[task].get(f"{metric}_stderr,{filtered}") for task in having]
            stderr = None
            if all(isinstance(error, int | float) for error in errors) and sum(sizes) > len(sizes):
                stderr = pooled_sample_stderr(errors, sizes) if weighted else unweighted_mean_stderr(errors)
            found[metric] = {
                "value": float(aggregate_subtask_metrics(values, sizes, weighted)),
                "stderr": None if stderr is None else float(stderr),
            }
        if metric not in found:
            raise ValueError(f"group {name}: none of its tasks has the metric {metric}")
    return found


def group_weights(
    about: dict[str, Any], measured: dict[str, dict[str, Any]], items: dict[str, int]
) -> dict[str, float]:
    """Return {task: its part} of the mean that stands for a group, see `group_metrics`; parts add up to 1."""
    metric = headline_metric(about["metrics"])
    weighted = next(one for one in about["metrics"] if one["metric"] == metric).get("weight_by_size", True)
    sizes = {task: items[task] if weighted else 1 for task in about["tasks"] if metric in measured[task]}
    return {task: size / sum(sizes.values()) for task, size in sizes.items()}


def headline_metric(metrics: list[dict[str, Any]]) -> str:
    """Return the metric that stands for a task: "acc" where its definition has it, else its first one."""
    names = [metric["metric"] for metric in metrics]
    return "acc" if "acc" in names else names[0]


def _metrics(values: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return {metric: {"value", "stderr"}}; of several filters, the first one that the task names counts."""
    metrics: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        name, _, filtered = key.partition(",")
        if isinstance(value, int | float) and filtered:
            metric = name.removesuffix("_stderr")
            part = "stderr" if name.endswith("_stderr") else "value"
            metrics.setdefault(metric, {}).setdefault(part, float(value))
    return metrics
