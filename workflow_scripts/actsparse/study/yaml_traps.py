"""What YAML reads otherwise than it looks, refused with its file and line.

Snakemake reads configs by YAML 1.1, which keeps the last of two equal keys, takes 2:4 for 124 and 1e-4 for a
text. Nothing of that can be seen in what it returns, so the files are parsed a second time here, to nodes
that know how they were written. JSON has none of these traps but equal keys.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from actsparse.errors import ConfigError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TAG = "tag:yaml.org,2002:"
EXPONENT = re.compile(r"([-+]?)(\d+)?(\.\d*)?[eE]([-+]?)(\d+)")
OCTAL = re.compile(r"[-+]?0[0-7_]+")
# Here a number is meant where a key is one: files by sparsity.
BY_NUMBER = re.compile(r"models\.[^\n]+\.(thresholds|patterns)")


def check_files(files: Iterable[str | Path]) -> None:
    """Raise ConfigError for the first value or key in config files that YAML reads otherwise than it looks.

    These are keys given twice in one file; numbers to base 60 (an unquoted 2:4 is 124), to base 8 (010), and
    with an exponent that YAML takes for a text (1e-4); dates; keys that are true, false, null, or a number
    that is written another way (1.10). The same key in two files is meant: the later file's value counts.
    """
    for file in files:
        root, is_json = parsed(file)
        if root is not None:
            _check(root, "", Path(file), is_json, set())


def with_text_keys(value: Any, where: str = "") -> Any:
    """Return a config whose keys are all texts, numbers in the form that Python gives them.

    Where a key is the sparsity of a file of the user's, 0.5, "0.5" and "0.50" are the same. Raises
    ConfigError when two keys become one.
    """
    if isinstance(value, list):
        return [with_text_keys(item, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    found: dict[Any, Any] = {}
    for key, part in value.items():
        name = _name(key, where)
        below = f"{where}.{name}" if where else str(name)
        if name in found:
            raise ConfigError(f"{below} is given twice, under keys that are the same number")
        found[name] = with_text_keys(part, below)
    return found


def _name(key: Any, where: str) -> Any:
    """Return what a key is called in the config."""
    if BY_NUMBER.fullmatch(where) and not isinstance(key, bool):
        try:
            return str(float(key)) if not isinstance(key, int) else str(key)
        except (TypeError, ValueError):
            return key
    return str(key) if isinstance(key, int | float) and not isinstance(key, bool) else key


def parsed(file: str | Path) -> tuple[yaml.Node | None, bool]:
    """Return a config file as nodes, and whether it is JSON, which YAML would read but for its tabs."""
    text = Path(file).read_text(encoding="utf-8")
    try:
        json.loads(text)
    except ValueError:
        return yaml.compose(text, LOADER), False
    return yaml.compose(text.replace("\t", " "), LOADER), True


def _check(node: yaml.Node, where: str, file: Path, is_json: bool, seen: set[int]) -> None:
    if id(node) in seen:  # what an alias stands for is checked where it is written
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode) and not is_json:
        _refuse(_value_trap(node), where, node, file)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, where, file, is_json, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[Any, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            below = f"{where}.{key.value}" if where else key.value
            if not is_json:
                _refuse(_key_trap(key, where), below, key, file)
            name, line = _name_of(key, where), key.start_mark.line + 1
            if name in lines:
                several = f"line {lines[name]} and line {line}"
                raise ConfigError(f"{below} is given twice ({shown(file)}, {several})")
            lines[name] = line
            _check(value, below, file, is_json, seen)


def _refuse(trap: str | None, where: str, node: yaml.Node, file: Path) -> None:
    if trap:
        raise ConfigError(f"{where}: {trap} ({shown(file)}, line {node.start_mark.line + 1})")


def _value_trap(node: yaml.ScalarNode) -> str | None:
    """Return what is wrong with a value, or None."""
    text = node.value
    match = None if node.style or node.tag != f"{TAG}str" else EXPONENT.fullmatch(text)
    if match and (match[2] or match[3] not in (None, ".")):
        return f'YAML takes {text} for a text (write {_told(match)} for the number, "{text}" for a text)'
    return _number_trap(node)


def _number_trap(node: yaml.ScalarNode) -> str | None:
    """Return what is wrong with a scalar that YAML takes for a number or a date, or None."""
    text, kind = node.value, node.tag.removeprefix(TAG)
    if node.style or kind not in ("int", "float", "timestamp"):
        return None
    if kind == "timestamp":
        return f'YAML takes {text} for a date (write "{text}")'
    if ":" in text:
        return f'YAML takes {text} for the number {yaml.safe_load(text)} (write "{text}")'
    if kind == "int" and OCTAL.fullmatch(text):
        number = yaml.safe_load(text)
        return f'YAML takes {text} for the octal of {number} (write {number}, or "{text}" for a text)'
    return None


def _key_trap(node: yaml.ScalarNode, where: str) -> str | None:
    """Return what is wrong with a key, or None."""
    text, kind = node.value, node.tag.removeprefix(TAG)
    if node.style or kind in ("str", "merge"):
        return None
    if trap := _number_trap(node):
        return trap
    value = yaml.safe_load(text)
    if kind in ("int", "float") and (str(value) == text or BY_NUMBER.fullmatch(where)):
        return None
    return f'YAML takes the key {text} for {json.dumps(value, default=str)} (write "{text}")'


def _told(number: re.Match) -> str:
    """Return a number with an exponent as YAML 1.1 reads it, and in full where that is short."""
    sign, whole, point, exponent_sign, exponent = number.groups()
    fraction = (point or ".").ljust(2, "0")
    told = f"{sign}{whole or 0}{fraction}e{exponent_sign or '+'}{exponent}"
    if not math.isfinite(value := float(told)) or not 1e-9 < abs(value) < 1e12:
        return told
    return f"{told} or {format(Decimal(told).normalize(), 'f')}"


def _name_of(key: yaml.ScalarNode, where: str) -> Any:
    plain = not key.style and key.tag != f"{TAG}merge" and not key.tag.startswith("!")
    return _name(yaml.safe_load(key.value) if plain and key.tag != f"{TAG}str" else key.value, where)


def shown(file: Path) -> str:
    """Return a file's path as a user of this folder writes it."""
    relative = os.path.relpath(file)
    return str(file) if relative.startswith("..") else relative
