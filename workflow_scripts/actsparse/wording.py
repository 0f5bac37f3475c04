"""How parts of a config are told in captions."""

from typing import Any


def told_windows(use: dict[str, Any]) -> str:
    """Return in words which windows of which text a part of the config asks for."""
    count = "all" if use["sequences"] is None else use["sequences"]
    return f"{count} windows of {use['sequence_length']:,} tokens of {use['corpus']} ({use['split']})"
