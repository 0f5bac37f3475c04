"""Where in which config file a value was written, for messages about it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from actsparse.errors import ConfigError
from actsparse.study.yaml_traps import TAG, parsed, shown

# {key: (file, line, the same of the keys below)}
Places = dict[str, tuple[str, int, "Places"]]
# A message that names its lines already ends like this.
LOCATED = re.compile(r"line \d+\)$")


def located(error: ConfigError, files: Iterable[str | Path], given: Mapping[str, Any] | None = None) -> str:
    """Return a message that begins with a key of the config, followed by where that was written.

    `files` are merged in their order, `given` (from the command line) after them. A message whose key stands
    nowhere, or that names a file already, stays as it is.
    """
    places: Places = {}
    for file in files:
        root, _ = parsed(file)
        if isinstance(root, yaml.MappingNode):
            _merge(places, _places(root, shown(Path(file)), set()))
    _merge(places, _given(given or {}))
    message, found = str(error), None
    rest = message
    while fitting := [key for key in places if re.match(rf"{re.escape(key)}(?![A-Za-z0-9_])", rest)]:
        key = max(fitting, key=len)
        file, line, places = places[key]
        found = f"{file}, line {line}" if line else file
        rest = rest[len(key) :].lstrip(".")
    return message if found is None or LOCATED.search(message) else f"{message} ({found})"


def _places(node: yaml.MappingNode, file: str, above: set[int]) -> Places:
    """Return where the keys of a mapping stand; of merged ones, where they are written."""
    found: Places = {}
    own: Places = {}
    for key, value in _pairs(node):
        if key.tag == f"{TAG}merge":
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for base in merged:
                if isinstance(base, yaml.MappingNode) and id(base) not in above:
                    found = _places(base, file, above | {id(node)}) | found
            continue
        below = {}
        if isinstance(value, yaml.MappingNode) and id(value) not in above:
            below = _places(value, file, above | {id(node)})
        own[key.value] = (file, key.start_mark.line + 1, below)
    return found | own


def _pairs(node: yaml.MappingNode) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    return ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))


def _given(config: Mapping[str, Any]) -> Places:
    return {
        str(key): ("--config", 0, _given(value) if isinstance(value, Mapping) else {})
        for key, value in config.items()
    }


def _merge(places: Places, later: Places) -> None:
    """Put the places of a later file over those of the files before it, as their values are."""
    for key, (file, line, below) in later.items():
        if below and key in places and places[key][2]:
            _merge(places[key][2], below)
        else:
            places[key] = (file, line, below)
