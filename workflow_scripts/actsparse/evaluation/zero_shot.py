"""Zero-shot accuracy through lm_eval: its tasks, prompts and metrics, with the items fetched before."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
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
) -> dict[str, Any]:
    """Run lm_eval on the fetched `tasks` (folders).

    Returns {"tasks": {task: {"items", metric: {"value", "stderr"}}}, "headline": {task: metric}}, each task
    with all the metrics that its definition has, named as lm_eval names them without the filter ("acc",
    "acc_norm"), and with the one that stands for it.
    """
    outcome = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=[task_config(folder) for folder in tasks],
        task_manager=task_manager(tasks),
        num_fewshot=num_fewshot,
        limit=limit,
        apply_chat_template=apply_chat_template,
        log_samples=False,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    tasks = outcome["results"]
    return {
        "tasks": {
            task: {"items": outcome["n-samples"][task]["effective"], **_metrics(values)}
            for task, values in tasks.items()
        },
        "headline": {task: headline_metric(outcome["configs"][task]["metric_list"]) for task in tasks},
    }


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
