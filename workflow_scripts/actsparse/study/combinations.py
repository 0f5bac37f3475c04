"""Which scorers, patterns and mitigations go together. No torch here: configs are checked without it."""

from actsparse.methods.mitigations import MITIGATIONS_WITH_STATISTICS, TRAINED_MITIGATIONS
from actsparse.methods.scorers import SCORERS_WITH_PRUNED_WEIGHTS, SCORERS_WITH_STATISTICS

ACTIVATION_SCORERS = {"magnitude", "clact", "amber", "wina", "random"}
WEIGHT_SCORERS = {"magnitude", "wanda", "sparsegpt", "random"}
OUTPUT_SCORERS = {"magnitude", "cats", "random"}
SCORERS_OF_SIDE = {"input": ACTIVATION_SCORERS, "weight": WEIGHT_SCORERS, "output": OUTPUT_SCORERS}

# Those that are as published take what they need from the batch that they prune.
FROM_THE_BATCH_AS_PUBLISHED = {"clact", "smoothing", "learned_shift"}

# Pruning relative to a centre: what magnitude, and scores built on it, mean of x they would not of x - eta.
SHIFTS = {"shift", "shift_mean", "shift_static", "learned_shift"}


def refusal(
    side: str, scorer: str, pattern: str, mitigation: str, known: set[str] | None = None
) -> str | None:
    """Return why a combination makes no sense, in words for the user; None when it does.

    `side` is "input", "output" or "weight"; the others are words of the registries. A scorer that is in none
    of the lists here (somebody's new one) is refused nowhere.
    """
    allowed = SCORERS_OF_SIDE[side]
    others = set().union(*SCORERS_OF_SIDE.values()) - allowed
    if scorer in others:
        return f"scorer {scorer} does not rank a layer's {side} (allowed: {', '.join(sorted(allowed))})"
    if side != "input" and mitigation != "none":
        return f"mitigation {mitigation} corrects pruned inputs, not a pruned {side} (allowed: none)"
    if mitigation == "stored_weights":
        return "mitigation stored_weights is what scorer sparsegpt uses, not a choice of its own"
    if scorer == "sparsegpt" and pattern not in ("n_of_m", "top_k"):
        return f"scorer sparsegpt prunes N:M or a fraction, not pattern {pattern} (allowed: n_of_m, top_k)"
    if pattern == "threshold" and mitigation in SHIFTS | {"smoothing"}:
        return (
            f"mitigation {mitigation} changes what is pruned, and thresholds are quantiles of the unchanged "
            "magnitudes (allowed patterns: n_of_m, top_k)"
        )
    if pattern == "threshold" and scorer not in ("magnitude", "cats"):
        return f"thresholds are quantiles of magnitudes, not of {scorer} (allowed patterns: n_of_m, top_k)"
    if scorer == "clact" and mitigation in SHIFTS | {"smoothing"}:
        return (
            f"scorer clact weighs by the norms of the unchanged input's columns, and {mitigation} prunes a "
            "changed input (allowed scorers: magnitude, amber, wina, random)"
        )
    return None


def needs_statistics(scorer: str, mitigation: str, as_published: bool) -> bool:
    """Tell whether an experiment needs calibration statistics (`actsparse.calibration.statistics`)."""
    asking = {scorer} & SCORERS_WITH_STATISTICS | {mitigation} & MITIGATIONS_WITH_STATISTICS
    return bool(asking - FROM_THE_BATCH_AS_PUBLISHED if as_published else asking)


def needs_parameters(scorer: str, mitigation: str, as_published: bool) -> str | None:
    """Return what computes an experiment's parameters: "train", "sparsegpt", or None when it has none."""
    if scorer in SCORERS_WITH_PRUNED_WEIGHTS:
        return "sparsegpt"
    untrained = as_published and mitigation in FROM_THE_BATCH_AS_PUBLISHED
    return "train" if mitigation in TRAINED_MITIGATIONS and not untrained else None
