"""Answers to task items that are not the dense model's, after arXiv 2407.09141."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM

from actsparse.evaluation.distance import divergence
from actsparse.resources.tasks import task_config, task_manager

# {task: for each item in order, {"logs": log-likelihood of each choice in nats, "right": whether acc is 1}}
Answers = dict[str, list[dict[str, Any]]]


def answer(
    model,
    tokenizer,
    tasks: Sequence[Path],
    *,
    limit: int | None,
    num_fewshot: int,
    apply_chat_template: bool,
    batch_size: int,
    seed: int,
) -> Answers:
    """Return what `model` answers to the items of multiple-choice `tasks` (folders), by lm_eval.

    The answer is the choice of the largest log-likelihood, as its metric `acc` takes it. A log-likelihood
    that is not finite is None. Raises ValueError for a task without choices, or where `acc` is not 0 or 1.
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
        bootstrap_iters=0,
    )
    found: Answers = {}
    for task, samples in outcome["samples"].items():
        if outcome["configs"][task]["output_type"] != "multiple_choice":
            raise ValueError(f"{task}: has no choices, so no answers that could flip")
        found[task] = [_answered(task, sample) for sample in sorted(samples, key=lambda one: one["doc_id"])]
    return found


def _answered(task: str, sample: dict[str, Any]) -> dict[str, Any]:
    if sample.get("acc") not in (0, 1):
        raise ValueError(f"{task}: its items are not right or wrong (acc is {sample.get('acc')})")
    if "acc_mutual_info" in sample:
        raise ValueError(f"{task}: asks for choices without their question too, which is not measured")
    logs = [float(response[0]) for response in sample["filtered_resps"]]
    return {
        "logs": [log if math.isfinite(log) else None for log in logs],
        "right": bool(sample["acc"]),
    }


def compare_answers(dense: Answers, sparse: Answers) -> dict[str, dict[str, Any]]:
    """Return, of each task, how the answers of a model differ from the dense one's.

    {"items", and of each of these {"value", "stderr", "per_item"}}:

    flips: share of items whose answer is another; right_to_wrong and wrong_to_right: share of items that were
        right and are wrong, and the other way round. An item may flip from one wrong answer to another.
    choices_kl: KL(dense || sparse) in nats over the choices, their likelihoods scaled to a sum of 1.

    An item that has a log-likelihood that is not finite has no answer: it has flipped, is wrong, and has no
    KL, and neither has its task. Errors are those of means of independent items. Raises ValueError when the
    items are not the same.
    """
    found = {}
    for task, before in dense.items():
        after = sparse.get(task, [])
        if [len(item["logs"]) for item in before] != [len(item["logs"]) for item in after]:
            raise ValueError(f"{task}: the dense model answered other items")
        pairs = list(zip(before, after, strict=True))
        rights = [(_right(one), _right(other)) for one, other in pairs]
        per_item = {
            "flips": [float(_choice(a) is None or _choice(a) != _choice(b)) for a, b in pairs],
            "right_to_wrong": [float(one and not other) for one, other in rights],
            "wrong_to_right": [float(other and not one) for one, other in rights],
            "choices_kl": [_choices_kl(a, b) for a, b in pairs],
        }
        found[task] = {"items": len(pairs), **{name: _mean(values) for name, values in per_item.items()}}
    return found


def _choice(item: dict[str, Any]) -> int | None:
    """Return the answer, the first one of equals; None where there is none."""
    return None if None in item["logs"] else item["logs"].index(max(item["logs"]))


def _right(item: dict[str, Any]) -> bool:
    return item["right"] and _choice(item) is not None


def _choices_kl(dense: dict[str, Any], sparse: dict[str, Any]) -> float | None:
    if None in dense["logs"] or None in sparse["logs"]:
        return None
    logs = (torch.tensor([item["logs"]], dtype=torch.float64) for item in (dense, sparse))
    return divergence(*logs).item()


def _mean(values: list[float | None]) -> dict[str, Any]:
    whole = None not in values
    numbers = torch.tensor(values if whole else [], dtype=torch.float64)
    error = numbers.std().item() / math.sqrt(len(values)) if whole and len(values) > 1 else None
    return {"value": numbers.mean().item() if whole else None, "stderr": error, "per_item": values}
