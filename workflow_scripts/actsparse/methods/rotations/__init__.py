"""Rotations: the orthogonal basis in which inputs are ranked and pruned. One file here makes a new one.

A rotation says of itself, in its class:
    word: its word in the config.
    made_by: the artifact that holds what it is made of, by site.
"""

from actsparse.registry import Family

ROTATIONS = Family("rotation", __name__, __path__[0])
