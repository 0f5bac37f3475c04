"""Scorers: what ranks the elements of a site. One file here makes a new one.

A scorer says of itself, in its class:
    word: its word in the config.
    ranks: which of "input", "output" and "weight" of a layer; without it, any.
    patterns: the patterns it goes with; without it, all that are not thresholds.
    thresholds: whether thresholds may be quantiles of its scores, which are then counted; if it ranks nothing
        but some projections' outputs, `counted` names these.
    statistics: whether it needs statistics of calibration inputs.
    from_the_batch_as_published: as published, what it needs comes from the batch that it ranks.
    over_the_batch_as_published, over_the_matrix_as_published: as published, unstructured sparsity compares
        all tokens of a batch by it, or all weights of a matrix, not those of a row.
    seeded_as_published: whether it draws random numbers as published, from the study's seed.
    unchanged_input: whether its statistics are of inputs that no mitigation has changed.
    seeded: whether it draws random numbers, from the study's seed.
    made_by: the artifact that holds weights which are pruned for it beforehand; made_by_as_published: the
        same, as published, in place of its statistics.
"""

from actsparse.registry import Family

SCORERS = Family("scorer", __name__, __path__[0])
