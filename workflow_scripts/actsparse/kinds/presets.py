"""Neighbouring methods as experiments: each is a choice of side, projections, scorer, pattern, mitigation.

No torch here: configs are checked without it.
"""

from typing import Any

from actsparse.kinds.keys import EVERYTHING
from actsparse.kinds.prune_activations import PruneActivations
from actsparse.kinds.threshold import Threshold


def teal(sparsity: float, allocation: str = "uniform") -> dict[str, Any]:
    """TEAL, arXiv 2408.14690: inputs of all projections below a threshold of magnitude are zero.

    Thresholds are quantiles of the inputs' magnitudes, of one sparsity for all (allocation "uniform") or of
    what its block-wise greedy search gives each projection (allocation "greedy",
    `actsparse.calibration.greedy_search`).
    """
    return {
        "method": Threshold.word,
        "side": "input",
        "sparsity": sparsity,
        "allocation": allocation,
        "scorer": "magnitude",
        "projections": EVERYTHING,
    }


def cats(sparsity: float) -> dict[str, Any]:
    """CATS, arXiv 2404.08763: the gate's activation is zero below a threshold.

    Thresholds are quantiles of abs(act(gate)), so their histograms are counted with scorer cats.
    """
    return {
        "method": Threshold.word,
        "side": "output",
        "sparsity": sparsity,
        "scorer": "cats",
        "projections": ["gate_proj"],
    }


def wina(sparsity: float, rotation: str | None = None) -> dict[str, Any]:
    """WINA, arXiv 2505.19427: each token keeps the inputs of largest abs(x_i) * norm(W_:,i).

    With rotation "singular_vectors" in the basis where columns of k_proj and gate_proj are orthogonal, as the
    paper has it. Its greedy search of each layer's sparsity is left out.
    """
    return {
        **({} if rotation is None else {"rotation": rotation}),
        "method": PruneActivations.word,
        "pattern": sparsity,
        "scorer": "wina",
        "mitigation": "none",
        "projections": EVERYTHING,
    }


def larosa(sparsity: float) -> dict[str, Any]:
    """LaRoSA, arXiv 2507.01299: top-k along the principal axes of what blocks read of the hidden states.

    Inputs of o_proj and down_proj keep their own channels. The paper gives turned inputs 0.8 and these 1.2
    times the sparsity; here both are uniform.
    """
    return {
        "method": PruneActivations.word,
        "pattern": sparsity,
        "rotation": "eigenvectors",
        "scorer": "magnitude",
        "mitigation": "none",
        "projections": EVERYTHING,
    }


def r_sparse(sparsity: float, rank: int) -> dict[str, Any]:
    """R-Sparse, arXiv 2504.19449: what is pruned goes through a low-rank approximation of the weight.

    The paper finds sparsity and rank of each layer by an evolutionary search; here both are uniform.
    `realised_sparsity` counts pruned inputs only; the low-rank product reads rank * (in + out) weights more.
    """
    return {
        "method": PruneActivations.word,
        "pattern": sparsity,
        "scorer": "magnitude",
        "mitigation": "low_rank",
        "rank": rank,
        "projections": EVERYTHING,
    }


# How a varied argument is written in the name of an experiment; in full, if not here.
PRESET_LABELS = {"sparsity": "", "allocation": "", "rotation": ""}
PRESETS = {"teal": teal, "cats": cats, "wina": wina, "larosa": larosa, "r_sparse": r_sparse}
