"""Items are checked against what their task's own definition reads of them.

lm_eval takes a missing column for a word of the prompt and an answer that is none of the choices for a wrong
one: the accuracy is then 0 and nothing fails.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateSyntaxError, meta

if TYPE_CHECKING:
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

TEMPLATES = ("doc_to_text", "doc_to_choice", "doc_to_target", "gen_prefix")
# A template that asks whether a column is there may do without it, one with conditions may leave it out.
MAY_LACK = re.compile(r"\bis (not )?defined\b|\bdefault\(")
CONDITIONAL = re.compile(r"{%|\b(if|or|and|not)\b")


def columns_read(config: dict[str, Any]) -> dict[str, bool]:
    """Return {column: whether each item's value is read} of what a task's definition reads, in its order.

    Of a definition that makes its columns itself (`process_docs`), or reads them by a function, nothing is
    known.
    """
    found: dict[str, bool] = {}
    if config.get("process_docs") is not None:
        return found
    for template in map(config.get, TEMPLATES):
        if not isinstance(template, str) or MAY_LACK.search(template):
            continue
        if "{{" not in template and "{%" not in template:
            names = [template] if template.strip() else []
        else:
            try:
                unordered = meta.find_undeclared_variables(Environment().parse(template))
            except TemplateSyntaxError:
                continue
            names = sorted(unordered, key=template.index)
        for name in names:
            found[name] = found.get(name, False) or not CONDITIONAL.search(template)
    return found


def check_columns(config: dict[str, Any], columns: Iterable[str], name: str) -> None:
    """Raise ValueError for the first column that a task's definition reads and items do not have.

    `name` is what the items are called in the message.
    """
    columns = list(columns)
    for column in columns_read(config):
        if column not in columns:
            raise ValueError(f"{name}: no column {column!r}; it has {', '.join(columns) or 'nothing'}")


def check_items(config: dict[str, Any], splits: dict[str, "Dataset"], name: str, fewshot: bool) -> None:
    """Raise ValueError, in one line, for items that a task's definition cannot read or score.

    `config` is the definition, functions resolved, `splits` the items by split. Those that the task is scored
    on are checked, and with `fewshot` those that solved examples are taken from: an empty set, a column that
    is not there, a null, a definition's function that fails, an answer that is none of the choices.
    """
    scored = config.get("test_split") or config["validation_split"]
    for split in [scored, *splits] if fewshot else [scored]:
        if not len(splits[split]):
            raise ValueError(f"{name}: holds no items")
        check_columns(config, splits[split].column_names, name)
        read = [column for column, always in columns_read(config).items() if always]
        for number, row in enumerate(splits[split].select_columns(read) if read else []):
            if nulls := [column for column in read if _has_null(row[column])]:
                raise ValueError(f"{name}, row {number}: {nulls[0]!r} is null")
    try:
        task = _task(config, splits)
        documents = list(task.eval_docs)
        solved = list(task.fewshot_docs() or []) if fewshot else []
    except Exception as error:
        raise ValueError(f"{name}: does not fit the task's definition ({_told(error)})") from error
    if not documents:
        raise ValueError(f"{name}: holds no items that the task's definition keeps")
    for of, rows in (("row", documents), ("row for solved examples", solved)):
        for number, row in enumerate(rows):
            try:
                problem = _problem(task, row)
            except Exception as error:
                problem = f"does not fit the task's definition ({_told(error)})"
            if problem:
                raise ValueError(f"{name}, {of} {number}: {problem}")


def _task(config: dict[str, Any], splits: dict[str, "Dataset"]) -> "ConfigurableTask":
    """Build lm_eval's task on these items, without its way of loading any."""
    from lm_eval.api.task import ConfigurableTask

    kept = {key: value for key, value in config.items() if key not in ("tag", "group", "task_list")}
    of_splits = {key: kept.get(key) if kept.get(key) in splits else None for key in kept if "_split" in key}
    loaded = {"custom_dataset": lambda **ignored: splits, "dataset_kwargs": None, "metadata": None}
    return ConfigurableTask(config={**kept, **of_splits, **loaded})


def _problem(task: "ConfigurableTask", row: dict[str, Any]) -> str:
    """Return why an item cannot be scored, as lm_eval would do it; "" where it can."""
    prompt, target = task.doc_to_text(row), task.doc_to_target(row)
    if task.OUTPUT_TYPE != "multiple_choice":
        return "its answer is null" if target is None else ""
    choices = task.doc_to_choice(row)
    if not isinstance(choices, list) or not choices or not all(isinstance(one, str) for one in choices):
        return f"its choices are {_shown(choices)}, expected texts"
    if callable(task.config.process_results):  # which scores as it likes
        return ""
    label = prompt if task.multiple_input else target
    labels = label if isinstance(label, list) else [label]
    for one in labels:
        if not (one in range(len(choices)) if isinstance(one, int) else one in choices):
            return f"label {one!r} is none of 0 to {len(choices) - 1} or {_shown(choices)}"
    return "" if labels else "has no label"


def _has_null(value: Any) -> bool:
    """Tell whether a value is null, or is made of lists that hold one."""
    if isinstance(value, dict):
        return any(isinstance(one, list) and _has_null(one) for one in value.values())
    return value is None or (isinstance(value, list) and any(map(_has_null, value)))


def _told(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no column {error}"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
