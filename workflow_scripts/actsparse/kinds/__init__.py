"""Kinds of experiments: one file each says everything about it. May import every room below; no torch.

`kind.py` says what a kind is, `keys.py` holds keys of the config that several share, `presets.py` the methods
of others as experiments of these kinds.
"""

from actsparse.discovery import members
from actsparse.kinds.kind import Kind

KINDS: dict[str, type[Kind]] = members(__name__, Kind)

__all__ = ["KINDS", "Kind"]
