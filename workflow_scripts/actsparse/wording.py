"""How parts of a config are told in captions."""

from typing import Any

from actsparse.resources.sources import divided

# Of the documents of one file.
PARTS = {"train": "four fifths of its documents", "test": "a fifth of its documents"}


def told_windows(config: dict[str, Any], use: str) -> str:
    """Return in words which windows of which text a part of the config, such as perplexity, asks for."""
    asked = config[use]
    count = "all" if asked["sequences"] is None else asked["sequences"]
    split = asked["split"]
    if divided(config["corpora"][asked["corpus"]]["source"]) and split in PARTS:
        split = f"{split}, {PARTS[split]}"
    return f"{count} windows of {asked['sequence_length']:,} tokens of {asked['corpus']} ({split})"


def told_parts(parts: list[float]) -> str:
    """Return in words of how much of a text measurements are, "" where they are of all but a remainder."""
    if not parts or min(parts) > 0.99:
        return ""
    shown = list(dict.fromkeys(f"{100 * part:.2g}" for part in (min(parts), max(parts))))
    return f", {' to '.join(shown)} % of the whole text"
