"""Coverage of what neurons are worth: active neurons weigh abs(activation)^p, normalised in each layer.

A weight in the update makes centroids keep the neurons whose loss costs most; in the assignment it chooses
the centroid that keeps most of this token. The two powers need not be the same, but only if they are does
the objective never fall (up to the rounding of the weights).
"""

from dataclasses import dataclass

from actsparse.codebooks.coverage import Coverage


@dataclass(frozen=True)
class ActivationAware(Coverage):
    """As `Coverage`; update_power, assign_power: p in the update and in the assignment, 0 for none.

    Its stream yields weighted `Block`s, in place of packed patterns.
    """

    word = "activation_aware"
    weighs = True
    fixed = ("warm_up",)

    update_power: int = 2
    assign_power: int = 1
