"""Validation against the JSON schema, with one readable line per mistake."""

import copy
import difflib
import math
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from actsparse.benchmarks import BENCHMARKS
from actsparse.errors import ConfigError
from actsparse.kinds import KINDS


def whole_schema(schema_file: str | Path) -> dict[str, Any]:
    """Return the schema of a study: the file's, with a key for each benchmark and the words of kinds."""
    schema = yaml.safe_load(Path(schema_file).read_text())
    parts: dict[str, Any] = {}
    for key, part in schema["properties"].items():
        parts |= (
            {word: found.schema() for word, found in BENCHMARKS.items()}
            if key == "benchmarks"
            else {key: part}
        )
    parts["experiments"]["additionalProperties"]["properties"]["method"]["enum"] = list(KINDS)
    parts["tables"]["additionalProperties"]["properties"]["needs"]["items"]["enum"] = list(KINDS)
    return schema | {"properties": parts}


def validate(config: dict[str, Any], schema_file: str | Path) -> dict[str, Any]:
    """Return the config, defaults filled in, keys in order. Raises ConfigError for the first mistake."""
    config = copy.deepcopy(dict(config))
    _refuse_not_finite(config, "")
    check(config, whole_schema(schema_file), "")
    return config


def _refuse_not_finite(value: Any, where: str) -> None:
    """Raise ConfigError for a number that is none, or infinite: no comparison with a bound finds it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: {value} is not allowed (expected a finite number)")
    if isinstance(value, dict):
        for key, part in value.items():
            _refuse_not_finite(part, f"{where}.{key}" if where else str(key))
    if isinstance(value, list):
        for part in value:
            _refuse_not_finite(part, where)


def check(value: Any, schema: dict, where: str) -> None:
    """Fill defaults into `value` and order its keys, in place; ConfigError if it does not match `schema`.

    `where` is the dotted key of `value`, for the message.
    """
    _fill_defaults(value, schema, schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(value)
    error = jsonschema.exceptions.best_match(errors)
    if error is not None:
        while error.parent is not None:  # of alternatives, all are told and not the nearest alone
            error = error.parent
        raise ConfigError(_line(error, where))


def _fill_defaults(value: Any, schema: dict, root: dict) -> None:
    schema = resolve(schema, root)
    if not isinstance(value, dict):
        return
    for key, part in schema.get("properties", {}).items():
        default = resolve(part, root).get("default", part.get("default"))
        if key not in value and default is not None:
            value[key] = copy.deepcopy(default)
        elif key not in value and "default" in resolve(part, root):
            value[key] = None
        if key in value:
            _fill_defaults(value[key], part, root)
    rest = schema.get("additionalProperties")
    if isinstance(rest, dict):
        for key in value.keys() - schema.get("properties", {}).keys():
            _fill_defaults(value[key], rest, root)
    # Known keys in the schema's order: a job is not run again because its config names them in another.
    known = {key: value.pop(key) for key in schema.get("properties", {}) if key in value}
    others = dict(value)
    value.clear()
    value |= known | others


def resolve(schema: dict, root: dict) -> dict:
    """Follow $ref; what stands beside it wins."""
    while "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _line(error: jsonschema.ValidationError, where: str) -> str:
    path = ".".join([*filter(None, [where]), *map(str, error.absolute_path)])
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        close = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return (
            f"{'.'.join(filter(None, [path, str(unknown)]))}: unknown key (allowed: {', '.join(known)}){hint}"
        )
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{'.'.join(filter(None, [path, missing]))}: missing (required)"
    return f"{path}: {_shown(error.instance)} is not allowed ({_allowed(error)})"


def _allowed(error: jsonschema.ValidationError) -> str:
    rule, limit = error.validator, error.validator_value
    words = {
        "enum": lambda: "allowed: " + ", ".join(map(str, limit)),
        "const": lambda: f"allowed: {limit}",
        "type": lambda: _expected(limit, error.instance),
        "minimum": lambda: f"must be at least {limit}",
        "exclusiveMinimum": lambda: f"must be above {limit}",
        "exclusiveMaximum": lambda: f"must be below {limit}",
        "minItems": lambda: f"needs at least {limit} item",
        "minProperties": lambda: f"needs at least {limit} entry",
        "uniqueItems": lambda: "items must differ",
        "pattern": lambda: f"must match {limit}",
    }
    described = error.schema.get("description")
    told = words.get(rule, lambda: described or error.message)()
    return f"{told}: {described}" if described and told != described and rule in {"pattern", "type"} else told


def _expected(kinds: str | list[str], value: Any) -> str:
    """Return which types are allowed, and how the value would be written as one of them."""
    told = f"expected {kinds if isinstance(kinds, str) else ' or '.join(kinds)}"
    if "string" in kinds and not isinstance(value, str | dict | list | None):
        return f"{told}; texts that look like something else are written in quotes"
    if {"number", "integer"} & set([kinds] if isinstance(kinds, str) else kinds) and isinstance(value, str):
        return f"{told}, without quotes, and with a point before an exponent: 1.0e-4"
    return told


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
