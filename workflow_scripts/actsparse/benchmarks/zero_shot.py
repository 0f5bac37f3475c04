"""zero_shot: accuracies of lm_eval's tasks, with its prompts and metrics, on items fetched before."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsparse.artifacts import Need, origin
from actsparse.benchmarks.benchmark import Benchmark, Config, Numbers, Records
from actsparse.benchmarks.items import observed_items
from actsparse.columns import Column
from actsparse.errors import ConfigError, check_one_of
from actsparse.jobs.files import number
from actsparse.observations import Observations
from actsparse.resources.task_index import expand, leaves, tasks_root

if TYPE_CHECKING:
    from actsparse.evaluation.run import Run
    from actsparse.report.published import Cell

# The metric that goes without saying.
PLAIN = "acc"
# Few prompts are longer.
TOKENS_OF_A_PROMPT = 512


GROUP = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tasks", "metrics"],
    "properties": {
        "tasks": {
            "description": "Its tasks.",
            "type": "array",
            "minItems": 1,
            "items": {"type": "string"},
        },
        "metrics": {
            "description": "Of what it has a mean, the first one stands for it.",
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["metric"],
                "properties": {
                    "metric": {"type": "string"},
                    "weight_by_size": {"type": "boolean"},
                    "filter_list": {"type": ["array", "null"], "items": {"type": "string"}},
                },
            },
        },
    },
}


class ZeroShot(Benchmark):
    """A column for each task, and their mean."""

    word = "zero_shot"
    description = "lm_eval tasks; without it none are run."
    keys = {
        "tasks": {
            "description": (
                "Names of lm_eval tasks, groups and tags; a group stands for its tasks and has lm_eval's "
                "mean of them, a tag stands for its tasks."
            ),
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "string"},
        },
        "groups": {
            "description": (
                "The groups among the tasks, and those in them. Filled in from lm_eval, where it is "
                "installed beside Snakemake."
            ),
            "type": "object",
            "additionalProperties": GROUP,
        },
        "limit": {
            "description": "Items per task, the first ones; null takes all.",
            "type": ["integer", "null"],
            "minimum": 1,
            "default": None,
        },
        "num_fewshot": {
            "description": "Solved examples shown before each item.",
            "type": "integer",
            "minimum": 0,
            "default": 0,
        },
        "apply_chat_template": {
            "description": "Wrap the prompts in the tokenizer's chat template.",
            "type": "boolean",
            "default": False,
        },
        "batch_size": {
            "description": "Sequences a forward pass takes.",
            "type": "integer",
            "minimum": 1,
            "default": 8,
        },
    }
    required = ("tasks",)
    group = "tasks"
    minutes = 480
    logit_copies = 2  # and their logarithms
    libraries_mb = 200  # lm_eval
    # A figure of both papers, where a study has both.
    against = {"accuracy_perplexity": ("mean_accuracy", "perplexity")}

    def complete(self, config: Config) -> None:
        """Put tasks in place of tags, and what groups are; ConfigError for what lm_eval does not have."""
        use = config[self.word]
        given = use.get("groups", {})
        if tasks_root() is None:  # the host has only Snakemake; the fetch job will tell
            return
        try:
            found = expand(use["tasks"], given)
        except ValueError as error:
            raise ConfigError(f"{self.word}.tasks: {error}") from None
        use["tasks"] = found.entries
        if found.groups:
            use["groups"] = found.groups

    def check(self, config: Config) -> None:
        """Raise ConfigError for a group that is not among the tasks."""
        use = config[self.word]
        inner = {name for entry in use["tasks"] for name in _inside(use.get("groups", {}), entry)}
        for name in use.get("groups", {}):
            check_one_of(f"{self.word}.groups", name, inner)

    def reads(self, config: Config) -> dict[str, list[Need]]:
        """Return the items of each task."""
        use = config[self.word]
        return {"tasks": [task_items(config, task) for task in leaves(use["tasks"], use.get("groups", {}))]}

    def options(self, config: Config, model: str) -> dict[str, Any]:
        """Return how lm_eval is run on a model."""
        options = {key: value for key, value in config[self.word].items() if key != "tasks"}
        if "groups" in options:
            options["counted"] = config[self.word]["tasks"]
        own = config["models"][model].get("apply_chat_template")
        return options | ({} if own is None else {"apply_chat_template": own}) | {"seed": config["seed"]}

    def tokens_at_once(self, config: Config) -> int:
        """Return a batch of prompts."""
        return TOKENS_OF_A_PROMPT * config[self.word]["batch_size"]

    def measure(self, run: "Run") -> dict[str, Any]:
        """Return each task's items and metrics, see `measure_zero_shot`."""
        from actsparse.evaluation.zero_shot import measure_zero_shot

        options = {key: value for key, value in run.options.items() if key != "batch_size"}
        tasks = [Path(folder) for folder in run.files["tasks"]]
        with run.sparse() as model:
            return measure_zero_shot(model, run.tokenizer, tasks, batch_size=run.batch_size, **options)

    def columns(self, config: Config, records: Records = ()) -> list[Column]:
        """Return tasks and groups, each with its metric where that is not accuracy, and their mean.

        What is in a group is a column on request.
        """
        metrics = next((record["headline"] for record in records if "headline" in record), {})
        use = config[self.word]
        groups = use.get("groups", {})
        inside = [*groups, *leaves(list(groups), groups)]
        tasks = [
            Column(
                task,
                _heading(task, metrics.get(task, PLAIN)),
                better="higher",
                headline=task in use["tasks"],
                paired="difference",
            )
            for task in dict.fromkeys([*use["tasks"], *inside])
        ]
        mean = {"better": "higher", "unit": "fraction", "paired": "difference"}
        return [*tasks, Column("mean_accuracy", "mean accuracy", **mean)]

    def numbers(self, record: dict[str, Any]) -> Numbers:
        """Return the headline metric of each task and group, and the mean of those that were asked for.

        These are taken as independent.
        """
        found = {}
        for task, metrics in (record["tasks"] | record.get("groups", {})).items():
            headline = metrics[record.get("headline", {}).get(task, PLAIN)]
            found[task] = (number(headline["value"]), number(headline.get("stderr")))
        counted = record.get("counted", list(record["tasks"]))
        values, errors = zip(*(found[task] for task in counted), strict=True)
        error = math.sqrt(sum(error**2 for error in errors)) / len(counted)
        return found | {"mean_accuracy": (sum(values) / len(counted), error)}

    def observations(self, record: dict[str, Any]) -> dict[str, Observations]:
        """Return the items of each task, and those that groups and the mean are of."""
        return observed_items(record, PLAIN)

    def told(self, config: Config, records: Records = ()) -> str:
        """Return how many items, and how they are asked."""
        use = config[self.word]
        items = "all items" if use["limit"] is None else f"the first {use['limit']} items"
        groups = [_told_group(name, use.get("groups", {})) for name in use["tasks"]]
        return " ".join(
            [f"Accuracy on {items} of each task, {use['num_fewshot']}-shot.", *filter(None, groups)]
        )

    def published_otherwise(self, cell: "Cell", config: Config, model: str) -> str:
        """Return where items or prompts differ from the papers'."""
        use = config[self.word]
        if use["limit"] is not None:
            return f"published on all items, ours on the first {use['limit']}"
        if self.options(config, model)["apply_chat_template"] != cell.chat_template:
            return f"published {'with' if cell.chat_template else 'without'} the chat template"
        return ""


def _heading(task: str, metric: str) -> str | None:
    return None if metric == PLAIN else f"{task} ({metric})"


def _told_group(name: str, groups: dict[str, dict[str, Any]]) -> str:
    if name not in groups:
        return ""
    weighted = groups[name]["metrics"][0].get("weight_by_size", True)
    by = "weighted by their items" if weighted else "each counted alike"
    return f"{name} is the mean of {len(groups[name]['tasks'])} tasks, {by}."


def _inside(groups: dict[str, dict[str, Any]], entry: str) -> list[str]:
    """Return a group and those whose tasks are all among its own."""
    own = set(groups.get(entry, {"tasks": []})["tasks"])
    return [name for name, about in groups.items() if name == entry or set(about["tasks"]) <= own]


def task_items(config: Config, task: str) -> Need:
    """Return where a task's items lie: they may come from several places, each study naming its own."""
    entry = config["tasks"].get(task, {})
    return Need("task", f"{entry.get('format', 'hub')}/{task}-{origin(entry)}")
