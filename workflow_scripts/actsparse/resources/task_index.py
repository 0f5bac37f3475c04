"""The tasks, groups and tags of lm_eval, found in its YAML files without importing it.

A config is checked each time that Snakemake starts, and lm_eval's own index takes ten seconds: here the files
are searched as text and only those that matter are parsed. Names mean what they mean there: of several files
that define one, the first in the order of their paths counts.
"""

import os
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

KEY = r"^[\"']?{}[\"']?[ \t]*:[ \t]*"
NAME = r"[\"']?([^\s\"'#\[{{][^\"'#\n]*?)[\"']?[ \t]*(?:#.*)?$"
GROUP = re.compile((KEY + NAME).format("group"), re.MULTILINE)
TASK = re.compile((KEY + NAME).format("task"), re.MULTILINE)
IN_PYTHON = re.compile(KEY.format("class"), re.MULTILINE)
INCLUDE = re.compile(KEY.format("include") + r"(.*)$", re.MULTILINE)
# What a group, or an entry of its list of tasks, may say without changing a task.
OF_A_GROUP = {"group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag"}
OF_A_MEMBER = {"task", "task_alias"}


class Function:
    """A function that a definition names; it is not imported."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Reads definitions, functions left alone."""


Loader.add_constructor("!function", lambda loader, node: Function())


@dataclass
class Expansion:
    """What names stand for.

    entries: tasks, and groups that have a mean of their own.
    groups: of these and of the groups with means in them {name: {"tasks": [...], "metrics": [...]}}, a metric
        being {"metric", "weight_by_size", "filter_list"} as lm_eval defines it.
    """

    entries: list[str] = field(default_factory=list)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)

    def leaves(self) -> list[str]:
        """Return the tasks, each once, in their order."""
        return leaves(self.entries, self.groups)


def leaves(entries: list[str], groups: dict[str, dict[str, Any]]) -> list[str]:
    """Return the tasks that entries stand for, each once, in their order."""
    found = [task for entry in entries for task in groups.get(entry, {"tasks": [entry]})["tasks"]]
    return list(dict.fromkeys(found))


@cache
def tasks_root() -> Path | None:
    """Folder of the task definitions of the installed lm_eval; None where it is not installed."""
    package = find_spec("lm_eval")
    return Path(package.origin).parent / "tasks" if package else None


def expand(names: list[str], given: dict[str, dict[str, Any]]) -> Expansion:
    """Return what names of tasks, groups and tags stand for; a tag is its tasks, without a mean.

    Groups that are `given` are as they are.

    Raises ValueError, in one line, for a name that lm_eval does not have, and for a group that changes its
    tasks.
    """
    whole = Expansion(groups=dict(given))
    for name in names:
        found = Expansion([name]) if name in given else _expand(name)
        whole.entries += [entry for entry in found.entries if entry not in whole.entries]
        whole.groups |= found.groups
    return whole


def definition_file(task: str) -> Path | None:
    """Return the YAML file that defines a task; None for groups, tags and what is not there."""
    if tasks_root() is None:
        return None
    kind, path = _quick(task) or _names().get(task, (None, None))
    return path if kind in ("task", "python") else None


@cache
def definition(path: Path) -> dict[str, Any]:
    """Return what a YAML file says, with what it includes; a `Function` stands for each function."""
    said = yaml.load(path.read_text(encoding="utf-8"), Loader)
    if not isinstance(said, dict):
        return {}
    included = said.pop("include", [])
    merged: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        merged |= definition(path.parent / name)
    return merged | said


def _expand(name: str) -> Expansion:
    kind, path = _quick(name) or _names().get(name, (None, None))
    if kind == "task":
        return Expansion([name])
    if kind == "group":
        return _of_group(name, definition(path))
    if kind == "python":
        raise ValueError(f"{name!r} is a task written in Python (allowed: tasks with a dataset_path)")
    if tasks := _tagged(name):
        return Expansion(tasks)
    raise ValueError(f"{name!r} is unknown (allowed: the tasks, groups and tags of `lm_eval ls`)")


def _of_group(name: str, said: dict[str, Any]) -> Expansion:
    if changed := said.keys() - OF_A_GROUP:
        raise ValueError(_changes(name, "its tasks", changed))
    found = Expansion()
    for member in [said["task"]] if isinstance(said["task"], str) else said["task"]:
        if isinstance(member, dict) and "group" in member and member["group"] not in _names():
            inner = _of_group(f"{name}::{member['group']}", member)
        elif isinstance(member, dict):
            own = member.get("task", member.get("group"))
            if changed := member.keys() - OF_A_MEMBER - ({"group"} if "group" in member else set()):
                raise ValueError(_changes(name, own or "a task", changed))
            inner = _expand(own)
        else:
            inner = _expand(member)
        found.entries += [entry for entry in inner.entries if entry not in found.entries]
        found.groups |= inner.groups
    metrics = said.get("aggregate_metric_list")
    if not metrics:
        return found
    about = {"tasks": found.leaves(), "metrics": [_metric(one) for one in _listed(metrics)]}
    return Expansion([name], {name: about} | found.groups)


def _metric(said: dict[str, Any]) -> dict[str, Any]:
    filters = said.get("filter_list")
    return {
        "metric": said["metric"],
        "weight_by_size": said.get("weight_by_size", True),
        "filter_list": None if filters is None else _listed(filters),
    }


def _changes(name: str, what: str, keys: set[str]) -> str:
    return f"group {name} gives {what} options of its own ({', '.join(sorted(keys))}); name tasks instead"


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _quick(name: str) -> tuple[str, Path] | None:
    """Find a task by the usual names of its file or folder, without a look into all of them."""
    root = tasks_root()
    if re.search(r"[*?\[\]/]", name):
        return None
    for path in (*root.glob(f"**/{name}.yaml"), *root.glob(f"**/{name}/*.yaml")):
        declared = TASK.search(path.read_text(encoding="utf-8"))
        if declared and declared[1] == name and not IN_PYTHON.search(path.read_text(encoding="utf-8")):
            return "task", path
    return None


@cache
def _texts() -> dict[Path, str]:
    """All files of definitions, and templates that they include, in the order in which lm_eval reads them."""
    paths = [
        Path(folder, file)
        for folder, _, files in os.walk(tasks_root())
        for file in files
        if file.endswith((".yaml", ".yml")) or "." not in file
    ]
    return {path: path.read_text(encoding="utf-8") for path in sorted(paths, key=Path.as_posix)}


@cache
def _names() -> dict[str, tuple[str, Path]]:
    names: dict[str, tuple[str, Path]] = {}
    for path, text in _texts().items():
        if path.suffix != ".yaml":
            continue
        in_python = IN_PYTHON.search(text)
        for kind, declares in (("group", GROUP), ("task", TASK)):
            if (declared := declares.search(text)) and not (in_python and kind == "group"):
                names.setdefault(declared[1], ("python" if in_python else kind, path))
                break
    return names


def _tagged(tag: str) -> list[str]:
    """Return the tasks that have a tag, also by what they include, in the order of their names."""
    holders = {path for path, text in _texts().items() if tag in text and "tag" in text}
    while more := {path for path, others in _includes().items() if holders & others} - holders:
        holders |= more
    tasks = set()
    for path in holders:
        declared = TASK.search(_texts()[path])
        if declared and _names().get(declared[1]) == ("task", path):
            tags = definition(path).get("tag") or []
            if tag in _listed(tags):
                tasks.add(declared[1])
    return sorted(tasks)


@cache
def _includes() -> dict[Path, set[Path]]:
    """Return {file: the files that it includes}."""
    found = {}
    for path, text in _texts().items():
        if match := INCLUDE.search(text):
            value = match[1].strip()
            names = [value.strip("\"'")] if value and value[0] not in "[#" else None
            if names is None:
                names = _listed(yaml.load(text, Loader)["include"])
            found[path] = {Path(os.path.normpath(path.parent / name)) for name in names}
    return found
