"""A scheme from the words and the files of an experiment."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.patterns import PATTERNS
from actsparse.methods.patterns.notation import parse_pattern
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.patterns.top_k_as_published import TopKAsPublished
from actsparse.methods.per_site import load_per_site
from actsparse.methods.rotations import ROTATIONS
from actsparse.methods.scorers import SCORERS
from actsparse.methods.sparsify import Mitigation, Pattern, Scheme, Scorer
from actsparse.methods.sparsity_table import read_sparsity_table
from actsparse.models.sites import Side


def build_scheme(
    side: Side,
    params: dict[str, Any],
    pattern: Pattern,
    *,
    statistics: str | Path | None = None,
    parameters: str | Path | None = None,
    rotations: str | Path | None = None,
    scorer: type[Scorer] | None = None,
    mitigation: type[Mitigation] | None = None,
) -> Scheme:
    """Return the Scheme of an experiment whose `params` have all their defaults.

    Calibration `statistics`, trained `parameters` (or pruned weights) and `rotations` are tables by site.
    Scorer, mitigation and rotation, those of `params` if none are given, get what they have fields for: these
    tables, `pattern`, and `as_published`, `seed` and `rank` of `params`.
    """
    as_published = bool(params.get("as_published", False))
    options = {key: params[key] for key in ("seed", "rank") if params.get(key) is not None}
    options |= {"as_published": as_published, "pattern": pattern}
    if statistics is not None:
        options["statistics"] = load_per_site(statistics)
    if parameters is not None:
        options["parameters"] = load_per_site(parameters)
    if rotations is not None:
        options["rotations"] = load_per_site(rotations)
    scorer = scorer or SCORERS[params.get("scorer", "magnitude")].load()
    mitigation = mitigation or MITIGATIONS[params.get("mitigation", "none")].load()
    rotation = ROTATIONS[params["rotation"]].load() if "rotation" in params else None
    return Scheme(
        side=side,
        projections=tuple(params["projections"]),
        scorer=with_options(scorer, options),
        pattern=pattern,
        mitigation=with_options(mitigation, options),
        layers=params.get("layers"),
        rotation=with_options(rotation, options) if rotation else None,
        drops_bias=as_published and side == "input",
    )


def published_pattern(params: dict[str, Any], pattern: Pattern, side: Side) -> Pattern:
    """Return what the artifact of arXiv 2509.22166 puts in place of an experiment's `pattern`."""
    if not (params.get("as_published") and isinstance(pattern, TopK)):
        return pattern
    says = SCORERS[params["scorer"]].says
    if side == "weight":
        over_all = says.get("over_the_matrix_as_published")
        return TopKAsPublished(float(pattern.sparsity), "matrix") if over_all else pattern
    over = "batch" if says.get("over_the_batch_as_published") else "row"
    return TopKAsPublished(float(pattern.sparsity), over)


def pattern_of(value: str | float, sparsities: str | Path | None = None) -> Pattern:
    """Return the pattern that a config writes as `value`, from its table of `sparsities` where it is one."""
    word, arguments = parse_pattern(value)
    if sparsities is not None:
        arguments = (read_sparsity_table(sparsities),)
    return PATTERNS[word].load()(*arguments)


def with_options(family: type, options: dict[str, Any]) -> Any:
    """Return an instance of a dataclass, given those of `options` that it has fields for."""
    known = {field.name for field in fields(family)}
    return family(**{key: value for key, value in options.items() if key in known})
