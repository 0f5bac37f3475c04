"""zero_shot: accuracies of lm_eval's tasks, with its prompts and metrics, on items fetched before."""

import math
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsparse.artifacts import Need
from actsparse.benchmarks.benchmark import Benchmark, Config, Numbers, Records
from actsparse.columns import Column
from actsparse.errors import ConfigError
from actsparse.jobs.files import number

if TYPE_CHECKING:
    from actsparse.evaluation.run import Run
    from actsparse.report.published import Cell

# The metric that goes without saying.
PLAIN = "acc"
# Few prompts are longer.
TOKENS_OF_A_PROMPT = 512


class ZeroShot(Benchmark):
    """A column for each task, and their mean."""

    word = "zero_shot"
    description = "lm_eval tasks; without it none are run."
    keys = {
        "tasks": {
            "description": "Names of lm_eval tasks.",
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "string"},
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

    def check(self, config: Config) -> None:
        """Raise ConfigError for a task that lm_eval does not have."""
        for task in config[self.word]["tasks"]:
            _check_task(task)

    def reads(self, config: Config) -> dict[str, list[Need]]:
        """Return the items of each task."""
        return {"tasks": [task_items(config, task) for task in config[self.word]["tasks"]]}

    def options(self, config: Config, model: str) -> dict[str, Any]:
        """Return how lm_eval is run on a model."""
        options = {key: value for key, value in config[self.word].items() if key != "tasks"}
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
        """Return the tasks, each with its metric where that is not accuracy, and their mean."""
        metrics = next((record["headline"] for record in records if "headline" in record), {})
        tasks = [
            Column(task, _heading(task, metrics.get(task, PLAIN)), better="higher", headline=True)
            for task in config[self.word]["tasks"]
        ]
        return [*tasks, Column("mean_accuracy", "mean accuracy", better="higher", unit="fraction")]

    def numbers(self, record: dict[str, Any]) -> Numbers:
        """Return each task's headline metric and their mean, the tasks taken as independent."""
        found = {}
        for task, metrics in record["tasks"].items():
            headline = metrics[record.get("headline", {}).get(task, PLAIN)]
            found[task] = (number(headline["value"]), number(headline.get("stderr")))
        values, errors = zip(*found.values(), strict=True)
        error = math.sqrt(sum(error**2 for error in errors)) / len(found)
        return found | {"mean_accuracy": (sum(values) / len(found), error)}

    def told(self, config: Config) -> str:
        """Return how many items, and how they are asked."""
        use = config[self.word]
        items = "all items" if use["limit"] is None else f"the first {use['limit']} items"
        return f"Accuracy on {items} of each task, {use['num_fewshot']}-shot."

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


def task_items(config: Config, task: str) -> Need:
    """Return where a task's items lie: they may come from several places, each study naming its own."""
    return Need("task", f"{config['tasks'].get(task, {}).get('format', 'hub')}/{task}")


def _check_task(task: str) -> None:
    package = find_spec("lm_eval")
    if package is None:  # the host has only Snakemake; the fetch job will tell
        return
    folder = Path(package.origin).parent / "tasks"
    if any(folder.glob(f"**/{task}.yaml")) or any(folder.glob(f"**/{task}/")):
        return
    declares = re.compile(rf"^task: *['\"]?{re.escape(task)}['\"]? *$", re.MULTILINE)
    if not any(declares.search(path.read_text(errors="replace")) for path in folder.glob("**/*.yaml")):
        raise ConfigError(f"zero_shot.tasks: {task!r} is unknown (allowed: the tasks of `lm_eval ls tasks`)")
