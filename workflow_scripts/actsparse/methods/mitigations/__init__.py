"""Mitigations: how the error of pruning is corrected. One file here makes a new one.

A mitigation says of itself, in its class:
    word: its word in the config; without one it is not for the config.
    corrects: what must be pruned, of "input", "output" and "weight"; the inputs, if it does not say.
    changes_input: whether it changes what is ranked and pruned, as a shift does.
    statistics: whether it needs statistics of calibration inputs.
    from_the_batch_as_published: as published, what it needs comes from the batch that it corrects.
    made_by: the artifact that holds its parameters, which are trained for it.
    requires: keys of the experiment that it cannot do without.
"""

from actsparse.registry import Family

MITIGATIONS = Family("mitigation", __name__, __path__[0])
