"""From an experiment of the config to the scheme that is applied to the model."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.patterns import PATTERNS, parse_pattern
from actsparse.methods.per_site import load_per_site
from actsparse.methods.scorers import SCORERS, SCORERS_WITH_PRUNED_WEIGHTS
from actsparse.methods.scorers.signed import Signed
from actsparse.methods.sparsify import Pattern, Scheme
from actsparse.methods.sparsity_table import read_sparsity_table
from actsparse.registry import resolve

SIDES = {
    "threshold": "output",
    "codebook": "output",
    "prune_activations": "input",
    "prune_weights": "weight",
}


def build_scheme(
    method: str,
    params: dict[str, Any],
    thresholds: Path | None = None,
    codebook: Path | None = None,
    statistics: Path | None = None,
    parameters: Path | None = None,
    routers: Path | None = None,
    sparsities: Path | None = None,
) -> Scheme | None:
    """Return the Scheme of an experiment; None, which leaves the model dense, for method `dense`.

    `params` are the experiment's, defaults filled in. The files are those it needs: calibration `statistics`
    and trained `parameters` (or pruned weights) are tables by site. Scorers and mitigations are given those
    of these, of `as_published`, `seed` and `rank`, and of the pattern that they have fields for.
    """
    if method == "dense":
        return None
    scorer, mitigation = params.get("scorer", "magnitude"), params.get("mitigation", "none")
    as_published = bool(params.get("as_published", False))
    options = {key: params[key] for key in ("seed", "rank") if params.get(key) is not None}
    options["as_published"] = as_published
    if statistics is not None:
        options["statistics"] = load_per_site(statistics)
    if parameters is not None:
        options["parameters"] = load_per_site(parameters)
    if scorer in SCORERS_WITH_PRUNED_WEIGHTS:
        mitigation = "stored_weights"
        pattern = resolve(PATTERNS, "full", "pattern")()
    else:
        pattern = options["pattern"] = _pattern(method, params, thresholds, codebook, routers, sparsities)
    family = Signed if method == "codebook" else resolve(SCORERS, scorer, "scorer")
    return Scheme(
        side=params.get("side", SIDES[method]),
        projections=tuple(params["projections"]),
        scorer=_with_options(family, options),
        pattern=pattern,
        mitigation=_with_options(resolve(MITIGATIONS, mitigation, "mitigation"), options),
        layers=params.get("layers"),
        drops_bias=as_published and method == "prune_activations",
    )


def _with_options(family: type, options: dict[str, Any]) -> Any:
    known = {field.name for field in fields(family)}
    return family(**{key: value for key, value in options.items() if key in known})


def _pattern(
    method: str,
    params: dict[str, Any],
    thresholds: Path | None,
    codebook: Path | None,
    routers: Path | None,
    sparsities: Path | None,
) -> Pattern:
    # Imported where used, so that an N:M experiment does not depend on the code of codebooks.
    if method == "threshold":
        from actsparse.methods.thresholds import load_thresholds

        return resolve(PATTERNS, "threshold", "pattern")(load_thresholds(thresholds))
    if method == "codebook":
        from actsparse.codebooks.codebook import load_codebooks
        from actsparse.codebooks.router import load_routers
        from actsparse.methods.thresholds import load_thresholds

        codebooks, _ = load_codebooks(codebook)
        combine = params.get("combine", "and")
        predicted = None if routers is None else load_routers(routers)[0]
        family = resolve(PATTERNS, "codebook", "pattern")
        joint = params.get("joint", False)
        return family(load_thresholds(thresholds), codebooks, combine, predicted, joint)
    word, arguments = parse_pattern(params["pattern"])
    if word == "top_k_table":
        arguments = (read_sparsity_table(sparsities),)
    return resolve(PATTERNS, word, "pattern")(*arguments)
