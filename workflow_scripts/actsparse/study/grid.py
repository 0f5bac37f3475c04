"""From the experiments of a config to the grid: one experiment per combination of listed values."""

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

from actsparse.codebooks import OPTIONS
from actsparse.files import digest_of
from actsparse.mitigations import MITIGATIONS, MITIGATIONS_WITH_STATISTICS, TRAINED_MITIGATIONS
from actsparse.patterns import PATTERNS, parse_pattern
from actsparse.scorers import SCORERS, SCORERS_WITH_PRUNED_WEIGHTS, SCORERS_WITH_STATISTICS
from actsparse.study.schema import ConfigError, check

# How a varied key is written in a slug; a key that is not here is written in full.
SLUG_LABELS = {
    "pattern": "",
    "scorer": "",
    "mitigation": "",
    "algorithm": "",
    "scope": "",
    "sparsity": "",
    "threshold": "t",
    "clusters": "k",
    "centroid_sparsity": "s",
    "groups": "g",
    "seeding": "",
    "combine": "",
    "update_power": "u",
    "assign_power": "a",
    "lost_weight": "l",
}
ALWAYS_LISTS = {"projections"}
# The kernels are imported inside a function, where numba may be missing.
CODEBOOK_MODULES = [
    f"actsparse.{module}"
    for module in ("thresholds", "codebooks.codebook", "codebooks.assign", "codebooks.kernels")
]


@dataclass(frozen=True)
class Experiment:
    """One sparsification scheme. `params` holds every parameter of its method, defaults filled in."""

    slug: str
    method: str
    params: dict[str, Any]

    @property
    def thresholds(self) -> float | None:
        """The sparsity of the thresholds it needs, if it needs any."""
        return self.params.get({"threshold": "sparsity", "codebook": "threshold"}.get(self.method))

    @property
    def codebook(self) -> str | None:
        """The slug of the codebook it needs, if it needs one."""
        return codebook_slug(self.params) if self.method == "codebook" else None

    @property
    def needs_statistics(self) -> bool:
        """Whether it needs the statistics of calibration inputs."""
        scorer, mitigation = self.params.get("scorer"), self.params.get("mitigation")
        calibrated = scorer in SCORERS_WITH_STATISTICS or mitigation in MITIGATIONS_WITH_STATISTICS
        return calibrated and not self.as_published

    @property
    def preparation(self) -> str | None:
        """What a job of its own makes for it: "trained_parameters", "pruned_weights" or nothing."""
        if self.params.get("mitigation") in TRAINED_MITIGATIONS and not self.as_published:
            return "trained_parameters"
        return "pruned_weights" if self.params.get("scorer") in SCORERS_WITH_PRUNED_WEIGHTS else None

    @property
    def as_published(self) -> bool:
        """Whether the artifact's own arithmetic is wanted where it differs from the corrected one."""
        return self.params.get("as_published", False)

    @property
    def modules(self) -> list[str]:
        """The library modules that its evaluation uses beyond those that every evaluation does."""
        if self.method == "dense":
            return []
        params, word = self.params, self.method
        if "pattern" in params:
            word, _ = parse_pattern(params["pattern"])
        classes = [
            PATTERNS[word],
            SCORERS[params.get("scorer", "magnitude")],
            MITIGATIONS[params.get("mitigation", "none")],
        ]
        extra = {"threshold": ["actsparse.thresholds"], "codebook": CODEBOOK_MODULES}.get(self.method, [])
        if self.preparation == "pruned_weights":
            classes += [PATTERNS["full"], MITIGATIONS["stored_weights"]]
        return [name.partition(":")[0] for name in classes] + extra


def expand(experiments: dict[str, dict], methods: dict[str, dict]) -> dict[str, Experiment]:
    """Expand lists, fill in the defaults of each method, and return the experiments by slug.

    `methods` maps each method to its schema. Raises ConfigError on values that a method does not allow, and
    on two experiments with one slug.
    """
    grid: dict[str, Experiment] = {}
    for name, raw in experiments.items():
        spec = {"method": "dense", **raw}
        if spec["method"] not in methods:
            allowed = ", ".join(methods)
            raise ConfigError(
                f"experiments.{name}.method: {spec['method']!r} is not allowed (allowed: {allowed})"
            )
        varied = [key for key, value in spec.items() if isinstance(value, list) and key not in ALWAYS_LISTS]
        for key in varied:
            if not spec[key]:
                raise ConfigError(f"experiments.{name}.{key}: the list is empty (give at least one value)")
        for values in product(*(spec[key] for key in varied)):
            chosen = dict(zip(varied, values, strict=True))
            params = {**spec, **chosen}
            check(params, methods[spec["method"]], f"experiments.{name}")
            slug = "-".join([name, *(f"{SLUG_LABELS.get(key, key)}{_word(chosen[key])}" for key in varied)])
            if slug in grid:
                raise ConfigError(f"experiments.{name}: a second experiment is called {slug!r}")
            grid[slug] = Experiment(slug, params.pop("method"), params)
    return grid


def codebook_slug(params: dict[str, Any]) -> str:
    """Return the name of the codebook that an experiment with these parameters uses."""
    size = f"k{params['clusters']}-s{params['centroid_sparsity']}"
    if "centroids" in params:
        return f"given-{digest_of(params['centroids'])[:8]}-{size}"
    grouped = {"groups": params["groups"]} if params["groups"] > 1 else {}
    options = [
        f"-{SLUG_LABELS.get(key, key)}{_word(value)}"
        for key, value in {**grouped, **codebook_options(params)}.items()
    ]
    return f"{params['algorithm']}-{params['scope']}-t{params['threshold']}-{size}{''.join(options)}"


def codebook_options(params: dict[str, Any]) -> dict[str, Any]:
    """Return those of an experiment's parameters that its algorithm alone knows."""
    return {key: params[key] for key in OPTIONS if key in params}


def _word(value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9._]", "_", str(value).replace(":", "of"))
