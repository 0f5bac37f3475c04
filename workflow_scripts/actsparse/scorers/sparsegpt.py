"""SparseGPT's weights at evaluation: the scorer that recognises what survived."""

from dataclasses import dataclass

from actsparse.scorers.magnitude import Magnitude


@dataclass
class SparseGPT(Magnitude):
    """Magnitude of the weights that `actsparse.sparsegpt` has pruned and updated.

    SparseGPT cannot be a score and a mask alone, for each choice changes the weights that later choices see.
    Its weights are computed once; the mitigation `stored_weights` puts them in place, and the pattern, which
    finds the zeros to be the smallest, confirms that they follow it.
    """
