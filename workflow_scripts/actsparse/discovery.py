"""Kinds and benchmarks: the classes with a `word` in the modules of a package."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def members(package: ModuleType | str, base: type[T]) -> dict[str, type[T]]:
    """Import the modules of a package and return the classes made from `base` that have a word, by their
    words.

    A file put into the folder is all that a new one takes. They come in the order of their words.
    """
    package = import_module(package) if isinstance(package, str) else package
    found = {}
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        for member in vars(import_module(module.name)).values():
            is_class = isinstance(member, type) and issubclass(member, base)
            if is_class and member.__module__ == module.name and "word" in vars(member):
                found[member.word] = member
    return dict(sorted(found.items()))
