"""No mitigation: the pruned tensor goes into the product as it is."""

from dataclasses import dataclass

from actsparse.methods.mitigations.mitigation import Mitigation


@dataclass
class NoMitigation(Mitigation):
    """Of inputs, outputs and weights alike."""

    word = "none"
    corrects = ("input", "output", "weight")
