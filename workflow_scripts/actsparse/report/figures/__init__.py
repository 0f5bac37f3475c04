"""Figures of a study: one module per figure, with a function `draw(data) -> matplotlib Figure`.

A new figure is one module here, one line in NEEDS and one caption in rules/captions/.
"""

# What a study must have for the figure to be drawn.
NEEDS: dict[str, set[str]] = {
    "perplexity_sparsity": {"perplexity"},
    "perplexity_ranking": {"perplexity"},
    "codebook_size": {"perplexity", "codebooks"},
    "thresholds": {"thresholds"},
    "active_neurons": {"active_neurons"},
    "accuracy_perplexity": {"perplexity", "zero_shot"},
    "time_memory": {"perplexity"},
}


def figures_of(measured: set[str]) -> list[str]:
    """Return the names of the figures that a study which has `measured` these things has data for."""
    return [name for name, needed in NEEDS.items() if needed <= measured]
