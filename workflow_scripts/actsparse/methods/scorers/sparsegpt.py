"""SparseGPT (arXiv 2301.00774) at evaluation: weights that were pruned and updated beforehand."""

from dataclasses import dataclass

from actsparse.methods.scorers.magnitude import Magnitude


@dataclass
class SparseGPT(Magnitude):
    """Scores do not matter: the stored weights replace the dense ones and all of them are kept.

    SparseGPT cannot be a score and a mask alone, for each choice changes the weights that later choices see
    (`actsparse.calibration.sparsegpt`). So its weights are computed once, by a job of their own, and used
    with the pattern `full` and the mitigation `stored_weights`.
    """

    word = "sparsegpt"
    ranks = ("weight",)
    thresholds = False
    patterns = ("n_of_m", "top_k")
    made_by = "pruned_weights"
