"""From an experiment of the config to the scheme that is applied to the model."""

from pathlib import Path
from typing import Any

from actsparse.mitigations import MITIGATIONS
from actsparse.patterns import PATTERNS, parse_pattern
from actsparse.registry import resolve
from actsparse.scorers import SCORERS
from actsparse.sparsify import Pattern, Scheme

SIDES = {
    "threshold": "output",
    "codebook": "output",
    "prune_activations": "input",
    "prune_weights": "weight",
}


def build_scheme(
    method: str, params: dict[str, Any], thresholds: Path | None, codebook: Path | None
) -> Scheme | None:
    """Return the Scheme of an experiment; None, which leaves the model dense, for method `dense`.

    `params` are the experiment's, defaults filled in; `thresholds` and `codebook` are the files it needs.
    """
    if method == "dense":
        return None
    return Scheme(
        side=SIDES[method],
        projections=tuple(params["projections"]),
        scorer=resolve(SCORERS, params.get("scorer", "magnitude"), "scorer")(),
        pattern=_pattern(method, params, thresholds, codebook),
        mitigation=resolve(MITIGATIONS, params.get("mitigation", "none"), "mitigation")(),
    )


def _pattern(method: str, params: dict[str, Any], thresholds: Path | None, codebook: Path | None) -> Pattern:
    # Imported where used, so that an N:M experiment does not depend on the code of codebooks.
    if method == "threshold":
        from actsparse.thresholds import load_thresholds

        return resolve(PATTERNS, "threshold", "pattern")(load_thresholds(thresholds))
    if method == "codebook":
        from actsparse.codebooks.codebook import load_codebooks
        from actsparse.thresholds import load_thresholds

        codebooks, _ = load_codebooks(codebook)
        return resolve(PATTERNS, "codebook", "pattern")(load_thresholds(thresholds), codebooks)
    word, arguments = parse_pattern(params["pattern"])
    return resolve(PATTERNS, word, "pattern")(*arguments)
