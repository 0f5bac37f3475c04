"""Words of the config, the classes they stand for, and what these say of themselves, read without importing
them.

A family is a folder. Its members are the classes in it that have a `word`; what the rest of the workflow asks
of a member stands in its class as plain values. They are read from the source, because a config is checked
where torch is not installed.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Member:
    """A class of a family: its module, its plain class attributes (`says`), the names of its fields."""

    word: str
    module: str
    name: str
    says: dict[str, Any]
    fields: frozenset[str]

    def load(self) -> type:
        """Import and return the class."""
        return load(f"{self.module}:{self.name}")


class Family(Mapping[str, Member]):
    """The members of a package, by their words in the order of their files.

    `name` is what a member is called in messages. A class without a `word` of its own, such as a base class,
    is no member; what it says holds for the classes of the same folder that are made from it.
    """

    def __init__(self, name: str, package: str, folder: str):
        self.name, self.package, self.folder = name, package, folder

    def __getitem__(self, word: str) -> Member:
        """Return a member. Raises ValueError that lists the allowed words."""
        try:
            return _members(self.package, self.folder)[word]
        except KeyError:
            raise ValueError(f"unknown {self.name} {word!r} (allowed: {', '.join(sorted(self))})") from None

    def __contains__(self, word: object) -> bool:
        return word in _members(self.package, self.folder)

    def __iter__(self) -> Iterator[str]:
        return iter(_members(self.package, self.folder))

    def __len__(self) -> int:
        return len(_members(self.package, self.folder))

    def that_say(self, what: str) -> list[str]:
        """Return the words of the members that say something true under the name `what`."""
        return [word for word, member in self.items() if member.says.get(what)]


def load(named: str) -> type:
    """Import and return a class that is named as "package.module:Class"."""
    module, _, name = named.partition(":")
    return getattr(import_module(module), name)


def literals(path: str | Path) -> dict[str, Any]:
    """Return the plain values that a module or a class's body assigns to names at its top level."""
    return _says(ast.parse(Path(path).read_text()))


@cache
def _members(package: str, folder: str) -> dict[str, Member]:
    classes = {
        node.name: (path.stem, node)
        for path in sorted(Path(folder).glob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    members = {}
    for name, (module, node) in classes.items():
        if word := _says(node).get("word"):
            says, fields = _inherited(name, classes)
            members[word] = Member(word, f"{package}.{module}", name, says, fields)
    return members


def _inherited(name: str, classes: dict[str, tuple[str, ast.ClassDef]]) -> tuple[dict, frozenset[str]]:
    if name not in classes:
        return {}, frozenset()
    node = classes[name][1]
    says: dict[str, Any] = {}
    fields = {
        part.target.id
        for part in node.body
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }
    for base in node.bases:
        of_base, more = _inherited(base.id if isinstance(base, ast.Name) else "", classes)
        says |= of_base
        fields |= more
    return says | _says(node), frozenset(fields)


def _says(body: ast.Module | ast.ClassDef) -> dict[str, Any]:
    found = {}
    for part in body.body:
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
            try:
                found[part.targets[0].id] = ast.literal_eval(part.value)
            except ValueError:
                continue
    return found
