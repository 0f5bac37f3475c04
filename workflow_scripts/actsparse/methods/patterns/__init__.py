"""Patterns: which elements survive, given their scores. One file here makes a new one.

How a config writes them is in `notation.py`. A pattern says of itself, in its class:
    word: its word in messages, and for `notation.py`.
    of_quantiles: whether it compares with quantiles of magnitudes that were counted before.
    keeps_all: whether it is for what was pruned beforehand.
"""

from actsparse.registry import Family

PATTERNS = Family("pattern", __name__, __path__[0])
