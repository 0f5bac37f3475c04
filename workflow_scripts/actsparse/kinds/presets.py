"""Neighbouring methods as experiments: each is a choice of side, projections, scorer, pattern, mitigation.

No torch here: configs are checked without it.
"""

from typing import Any

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FEED_FORWARD = ["gate_proj", "up_proj", "down_proj"]
EVERYTHING = ATTENTION + FEED_FORWARD

# The most of a projection's inputs that TEAL's greedy search drops.
GREEDY_LIMIT = 0.99


def teal(sparsity: float, allocation: str = "uniform") -> dict[str, Any]:
    """TEAL, arXiv 2408.14690: inputs of all projections below a threshold of magnitude are zero.

    Thresholds are quantiles of the inputs' magnitudes, of one sparsity for all (allocation "uniform") or of
    what its block-wise greedy search gives each projection (allocation "greedy",
    `actsparse.calibration.greedy_search`).
    """
    return {
        "method": "threshold",
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
        "method": "threshold",
        "side": "output",
        "sparsity": sparsity,
        "scorer": "cats",
        "projections": ["gate_proj"],
    }


def wina(sparsity: float) -> dict[str, Any]:
    """WINA, arXiv 2505.19427: each token keeps the inputs of largest abs(x_i) * norm(W_:,i)."""
    return {
        "method": "prune_activations",
        "pattern": sparsity,
        "scorer": "wina",
        "mitigation": "none",
        "projections": EVERYTHING,
    }


def r_sparse(sparsity: float, rank: int) -> dict[str, Any]:
    """R-Sparse, arXiv 2504.19449: what is pruned goes through a low-rank approximation of the weight.

    The paper finds sparsity and rank of each layer by an evolutionary search; here both are uniform.
    `realised_sparsity` counts pruned inputs only; the low-rank product reads rank * (in + out) weights more.
    """
    return {
        "method": "prune_activations",
        "pattern": sparsity,
        "scorer": "magnitude",
        "mitigation": "low_rank",
        "rank": rank,
        "projections": EVERYTHING,
    }


PRESETS = {"teal": teal, "cats": cats, "wina": wina, "r_sparse": r_sparse}
