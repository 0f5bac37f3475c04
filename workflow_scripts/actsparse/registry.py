"""Words of the config, and the classes they stand for.

A registry is a dict from a word to "package.module:Class". Reading its keys imports nothing, so a config can
be checked where torch is not installed.
"""

from importlib import import_module


def lookup(registry: dict[str, str], word: str, family: str) -> str:
    """Return the "package.module:Class" of `word`. Raises ValueError that lists the allowed words."""
    if word not in registry:
        raise ValueError(f"unknown {family} {word!r} (allowed: {', '.join(sorted(registry))})")
    return registry[word]


def resolve(registry: dict[str, str], word: str, family: str) -> type:
    """Import and return the class of `word`. Raises ValueError that lists the allowed words."""
    module, _, name = lookup(registry, word, family).partition(":")
    return getattr(import_module(module), name)
