"""Figures of a study: one module per figure, with a function `draw(data) -> matplotlib Figure`.

A new figure is one module here, one line in NEEDS and one caption in rules/captions/.
"""

from typing import Any

# What a study must have for the figure to be drawn, in the words of `available`.
NEEDS: dict[str, set[str]] = {
    "perplexity_sparsity": {"perplexity"},
    "perplexity_ranking": {"perplexity"},
    "codebook_size": {"perplexity", "codebooks"},
    "thresholds": {"thresholds"},
    "active_neurons": {"codebooks"},
    "accuracy_perplexity": {"perplexity", "zero_shot"},
    "time_memory": {"perplexity"},
}


def available(config: dict[str, Any], methods: set[str]) -> set[str]:
    """Return what a study with these methods measures: perplexity, zero_shot, thresholds, codebooks."""
    measured = {benchmark for benchmark in ("perplexity", "zero_shot") if benchmark in config}
    if methods & {"threshold", "codebook"}:
        measured.add("thresholds")
    if "codebook" in methods:
        measured.add("codebooks")
    return measured


def figures_of(config: dict[str, Any], methods: set[str]) -> list[str]:
    """Return the names of the figures that a study has data for."""
    return [name for name, needed in NEEDS.items() if needed <= available(config, methods)]
