"""Patterns: which elements survive, given their scores. One file here makes a new one.

How a config writes them is in `notation.py`.
"""

from actsparse.registry import Family

PATTERNS = Family("pattern", __name__, __path__[0])
