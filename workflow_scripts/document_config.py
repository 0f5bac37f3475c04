"""Writes docs/configuration.md from the schema of configs: python workflow_scripts/document_config.py"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from actsparse.kinds import KINDS
from actsparse.study.checks import FAMILIES
from actsparse.study.schema import resolve, whole_schema

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "rules/schemas/config.schema.yaml"
HEAD = """# Configuration

Made from `rules/schemas/config.schema.yaml` by `python workflow_scripts/document_config.py`.
A test checks that it is current.

A study is one YAML file: `config.yaml` in the root of the repository, or any other with
`snakemake --configfile FILE`, which then replaces it.
It is checked before anything runs; a mistake is one line that names the key and what is allowed.
Keys in bold are required. `<name>` is a word of your choice."""
METHODS = """## Methods

An experiment is one of these, under a name of your choice: `experiments: {mine: {method: threshold, ...}}`.
`method` may be left out for `dense`.
`reference: other` names the experiment that it is compared with, in place of the study's reference.
A list in place of a value gives one experiment for each value; several lists, one for each combination."""
WORDS = """## Words

What `scorer`, `mitigation`, `rotation` and `algorithm` may be, and the file that holds each."""


def main() -> None:
    """Write the page."""
    (ROOT / "docs/configuration.md").write_text(page(whole_schema(SCHEMA)))


def page(schema: dict[str, Any]) -> str:
    """Return the page of a schema."""
    parts = [HEAD, "## Keys", table(keys(schema, schema)), METHODS]
    for name, kind in KINDS.items():
        described = [key for key in keys(kind.schema(), schema) if key[0].strip("*`") != "method"]
        parts += [f"### {name}", kind.description, *([table(described)] if described else [])]
    return "\n\n".join([*parts, WORDS, words()]) + "\n"


def words() -> str:
    """Return a table of the families' words."""
    lines = ["| key | word | file |", "|---|---|---|"]
    for key, family in FAMILIES.items():
        for word, member in family.items():
            lines.append(f"| `{key}` | `{word}` | `{member.module.replace('.', '/')}.py` |")
    return "\n".join(lines)


def keys(part: dict[str, Any], root: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, ...]]:
    """Yield (key, allowed, default, description) of everything below a part of the schema."""
    for name, value in part.get("properties", {}).items():
        value = resolve(value, root)
        key = f"{prefix}{name}"
        shown = f"**`{key}`**" if name in part.get("required", []) else f"`{key}`"
        yield shown, allowed(value, root), default(value), value.get("description", "")
        yield from below(value, root, key)


def below(value: dict[str, Any], root: dict[str, Any], key: str) -> Iterator[tuple[str, ...]]:
    """Yield the keys inside a value, or inside each of its named entries."""
    yield from keys(value, root, f"{key}.")
    entry = value.get("additionalProperties")
    if isinstance(entry, dict) and key != "experiments":
        yield from keys(resolve(entry, root), root, f"{key}.<name>.")


def table(rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = ["| key | value | default | |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            "| " + " | ".join(cell.strip().replace("\n", " ").replace("|", r"\|") for cell in row) + " |"
        )
    return "\n".join(lines)


def allowed(value: dict[str, Any], root: dict[str, Any]) -> str:
    """Say in words which values are allowed."""
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "oneOf" in value:
        return " or ".join(allowed(resolve(one, root), root) for one in value["oneOf"])
    kinds = value.get("type", "any")
    kind = " or ".join(kinds) if isinstance(kinds, list) else kinds
    if kind == "array":
        kind = f"list of: {allowed(resolve(value.get('items', {}), root), root)}"
    bounds = [
        f"{sign} {value[key]:g}"
        for key, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if key in value
    ]
    return " ".join([{"object": "mapping"}.get(kind, kind), ", ".join(bounds)]).strip()


def default(value: dict[str, Any]) -> str:
    """Return the default as YAML; nothing where there is none, or it is an empty mapping."""
    if "default" not in value or value["default"] == {}:
        return ""
    if isinstance(value["default"], str) and "\n" in value["default"]:
        return f"`{json.dumps(value['default'])}`"
    text = yaml.safe_dump(value["default"], default_flow_style=True, width=1000).strip()
    return f"`{text.removesuffix('...').strip()}`"


if __name__ == "__main__":
    main()
