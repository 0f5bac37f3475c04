"""distance: how far predictions on a text, and answers to task items, are from the dense model's."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsparse.artifacts import Need
from actsparse.benchmarks.benchmark import Benchmark, Config, Numbers, Records
from actsparse.benchmarks.zero_shot import TOKENS_OF_A_PROMPT, ZeroShot, task_items
from actsparse.columns import Column
from actsparse.errors import ConfigError
from actsparse.jobs.files import number, read_json
from actsparse.resources.task_index import definition, definition_file, expand, leaves, tasks_root
from actsparse.wording import told_windows

if TYPE_CHECKING:
    from actsparse.evaluation.run import Run

TEXT = ("corpus", "split")
WINDOWS = {"sequence_length": 2048, "sequences": None}
OF_TEXT = (
    Column("kl", "KL from dense (nats a token)", better="lower", significant=3, headline=True),
    Column("top1_agreement", "top-1 agreement", better="higher", unit="fraction", headline=True),
    Column("tenfold_falls", "tenfold falls", better="lower", unit="fraction", decimals=4, headline=True),
    Column("logit_rms", "RMS of logits", better="lower", significant=3),
)
OF_ITEMS = (
    Column("flips", better="lower", unit="fraction", headline=True),
    Column("right_to_wrong", "right to wrong", better="lower", unit="fraction", headline=True),
    Column("wrong_to_right", "wrong to right", unit="fraction", headline=True),
    Column("choices_kl", "KL over choices (nats)", better="lower", significant=3),
)


class Distance(Benchmark):
    """KL and its like over a text, flips over items; one of them, or both."""

    word = "distance"
    description = (
        "Distance to the dense model on a text, on task items, or both; without it none is measured."
    )
    keys = {
        **{key: {"$ref": f"#/$defs/windows/properties/{key}"} for key in TEXT},
        **{
            key: {"$ref": f"#/$defs/windows/properties/{key}", "default": default}
            for key, default in WINDOWS.items()
        },
        "tasks": {
            "description": "lm_eval tasks of multiple choice whose answers are compared; groups and tags "
            "stand for their tasks.",
            "type": "array",
            "uniqueItems": True,
            "items": {"type": "string"},
            "default": [],
        },
        **{key: ZeroShot.keys[key] for key in ("limit", "num_fewshot", "apply_chat_template", "batch_size")},
    }
    minutes = 480
    logit_copies = ZeroShot.logit_copies
    logit_rows = 3 * 256  # TOKENS_PER_CHUNK: float32, their logarithms, and these less the kept tokens
    libraries_mb = ZeroShot.libraries_mb
    ranked = against_sparsity = "kl"
    against = {"kl_speed": ("kl", "ms_per_token")}

    def complete(self, config: Config) -> None:
        """Put tasks in place of groups and tags.

        ConfigError where there is neither a text nor a task, where a key would be ignored, and for what
        lm_eval does not have.
        """
        use = config[self.word]
        if "corpus" not in use and not use["tasks"]:
            raise ConfigError(f"{self.word}: nothing to measure (give corpus and split, tasks, or both)")
        if ("corpus" in use) != ("split" in use):
            missing = "split" if "corpus" in use else "corpus"
            raise ConfigError(f"{self.word}.{missing}: missing (required with a text)")
        for key in ("limit", "num_fewshot", "apply_chat_template", "batch_size"):
            if not use["tasks"] and use[key] != self.keys[key]["default"]:
                raise ConfigError(f"{self.word}.{key}: would be ignored (there are no {self.word}.tasks)")
        for key, default in WINDOWS.items() if "corpus" not in use else ():
            if use.pop(key) != default:
                raise ConfigError(f"{self.word}.{key}: would be ignored (there is no {self.word}.corpus)")
        if tasks_root() is not None:
            try:
                found = expand(use["tasks"], {})
            except ValueError as error:
                raise ConfigError(f"{self.word}.tasks: {error}") from None
            use["tasks"] = leaves(found.entries, found.groups)

    def check(self, config: Config) -> None:
        """Raise ConfigError for a task whose definition has no choices."""
        for task in config[self.word]["tasks"]:
            said = definition(file) if (file := definition_file(task)) else {"output_type": "multiple_choice"}
            if said.get("output_type") != "multiple_choice":
                raise ConfigError(
                    f"{self.word}.tasks: {task!r} is not allowed (its output_type is "
                    f"{said.get('output_type', 'generate_until')}, allowed: multiple_choice)"
                )

    def reads(self, config: Config) -> dict[str, Need | list[Need]]:
        """Return windows and items, each with what the dense model says to them."""
        use = config[self.word]
        found: dict[str, Need | list[Need]] = {}
        if "corpus" in use:
            found |= {"windows": Need("windows", self.word), "predictions": Need("predictions", self.word)}
        if use["tasks"]:
            tasks = [task_items(config, task) for task in use["tasks"]]
            found |= {"tasks": tasks, "answers": Need("answers", self.word)}
        return found

    def options(self, config: Config, model: str) -> dict[str, Any]:
        """Return how lm_eval is run on a model; nothing where there are no tasks."""
        use = config[self.word]
        if not use["tasks"]:
            return {}
        asked = {key: use[key] for key in ("limit", "num_fewshot", "apply_chat_template", "batch_size")}
        own = config["models"][model].get("apply_chat_template")
        return asked | ({} if own is None else {"apply_chat_template": own}) | {"seed": config["seed"]}

    def tokens_at_once(self, config: Config) -> int:
        """Return a window, or a batch of prompts."""
        use = config[self.word]
        prompts = TOKENS_OF_A_PROMPT * use["batch_size"] if use["tasks"] else 0
        return max(use.get("sequence_length", 0), prompts)

    def measure(self, run: "Run") -> dict[str, Any]:
        """Return distances on the text, see `measure_distance`, and `answers`, see `compare_answers`."""
        from actsparse.evaluation.distance import measure_distance
        from actsparse.models.windows import load_windows, part_of_text

        found: dict[str, Any] = {}
        with run.sparse() as model:
            if "windows" in run.files:
                windows, info = load_windows(run.files["windows"])
                windows = windows[: run.first_windows]
                text = {key: info[key] for key in ("corpus", "split", "documents", "of_documents")}
                found |= measure_distance(model, windows, run.files["predictions"])
                found["text"] = text | {"part": part_of_text(info, len(windows))}
            if "tasks" in run.files:
                # lm_eval takes ten seconds to import.
                from actsparse.evaluation.flips import answer, compare_answers

                tasks = [Path(folder) for folder in run.files["tasks"]]
                options = run.options | {"batch_size": run.batch_size}
                answers = answer(model, run.tokenizer, tasks, **options)
                found["answers"] = compare_answers(read_json(run.files["answers"]), answers)
        return found

    def columns(self, config: Config, records: Records = ()) -> list[Column]:
        """Return those of the text and those of the items, as far as there are any."""
        use = config[self.word]
        return [*(OF_TEXT if "corpus" in use else ()), *(OF_ITEMS if use["tasks"] else ())]

    def numbers(self, record: dict[str, Any]) -> Numbers:
        """Return values and errors; those of items are means over the tasks, taken as independent."""
        found = {}
        for column in OF_TEXT:
            if column.name in record:
                measured = record[column.name]
                found[column.name] = (number(measured["value"]), number(measured["stderr"]))
        tasks = list(record.get("answers", {}).values())
        for column in OF_ITEMS if tasks else ():
            values = [number(task[column.name]["value"]) for task in tasks]
            errors = [number(task[column.name]["stderr"]) for task in tasks]
            error = math.sqrt(sum(error**2 for error in errors)) / len(tasks)
            found[column.name] = (sum(values) / len(tasks), error)
        return found

    def told(self, config: Config, records: Records = ()) -> str:
        """Return the windows and the items, in words."""
        use = config[self.word]
        told = []
        if "corpus" in use:
            told.append(f"Distance to the dense model on {told_windows(config, self.word)}.")
        if use["tasks"]:
            items = "all items" if use["limit"] is None else f"the first {use['limit']} items"
            shots = f"{use['num_fewshot']}-shot"
            told.append(f"Flipped answers on {items} of {', '.join(use['tasks'])}, {shots}.")
        return " ".join(told)
