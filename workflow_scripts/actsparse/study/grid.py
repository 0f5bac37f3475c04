"""From the experiments of a config to the grid: one experiment per combination of listed values."""

import re
from dataclasses import dataclass
from inspect import signature
from itertools import product
from typing import Any

from actsparse.codebooks import OPTIONS
from actsparse.jobs.files import digest_of
from actsparse.kinds.presets import PRESETS
from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.patterns import PATTERNS, parse_pattern
from actsparse.methods.scorers import SCORERS
from actsparse.study.combinations import needs_parameters, needs_statistics
from actsparse.study.schema import ConfigError, check

# How a varied key is written in a slug; a key that is not here is written in full.
SLUG_LABELS = {
    "pattern": "",
    "scorer": "",
    "mitigation": "",
    "algorithm": "",
    "scope": "",
    "sparsity": "",
    "allocation": "",
    "threshold": "t",
    "clusters": "k",
    "centroid_sparsity": "s",
    "groups": "g",
    "patterns_of": "",
    "importance": "",
    "seeding": "",
    "combine": "",
    "joint": "joint",
    "update_power": "u",
    "assign_power": "a",
    "lost_weight": "l",
    "validation": "v",
    "seed_sparsity": "from",
    "warm_up": "warm",
    "replace_below": "least",
    "assignment": "",
    "router_rank": "r",
    "router_loss": "",
}
ALWAYS_LISTS = {"projections"}
# The kernels are imported inside a function, where numba may be missing.
CODEBOOK_MODULES = [
    f"actsparse.{module}"
    for module in (
        "methods.thresholds",
        "codebooks.codebook",
        "codebooks.contribution",
        "codebooks.router",
        "codebooks.assign",
        "codebooks.kernels",
    )
]


@dataclass(frozen=True)
class Experiment:
    """One sparsification scheme. `params` holds every parameter of its method, defaults filled in."""

    slug: str
    method: str
    params: dict[str, Any]

    @property
    def thresholds(self) -> str | None:
        """The name of the thresholds it needs, if any: their sparsity, and what was counted."""
        key = {"threshold": "sparsity", "codebook": "threshold"}.get(self.method)
        if key is None:
            return None
        searched = "-greedy" if self.params.get("allocation") == "greedy" else ""
        return f"{self.params[key]}{self.counted}{searched}"

    @property
    def counted(self) -> str:
        """What its thresholds are quantiles of: "" (FFN outputs), "-inputs", or "-cats" (scores of cats)."""
        if self.params.get("side") == "input":
            return "-inputs"
        return "-cats" if self.scorer == "cats" else ""

    @property
    def sparsities(self) -> str | None:
        """The table of sparsities that its pattern is, if it is one."""
        pattern = self.params.get("pattern")
        return pattern if pattern and parse_pattern(pattern)[0] == "top_k_table" else None

    @property
    def codebook(self) -> str | None:
        """The slug of the codebook it needs, if it needs one."""
        return codebook_slug(self.params) if self.method == "codebook" else None

    @property
    def perplexity_windows(self) -> int | None:
        """How many windows its perplexity is measured on, the first ones; None for all."""
        return 1 if self.method == "codebook" and self.as_published else None

    @property
    def router(self) -> str | None:
        """The slug of the routers it needs, if it needs any."""
        if self.params.get("assignment") != "router":
            return None
        rank = self.params.get("router_rank", "full")
        routed = "-".join(map(_word, self.routed))
        at_work = "-thresholded" if self.params["patterns_of"] == "thresholded" else ""
        return f"{self.codebook}-{self.params['router_loss']}-r{rank}-{routed}{at_work}"

    @property
    def routed(self) -> list[str]:
        """The projections whose centroids routers predict: not up, where it takes that of gate."""
        joint = self.params["joint"]
        return [word for word in self.params["projections"] if not (joint and word == "up_proj")]

    @property
    def needs_statistics(self) -> bool:
        """Whether it needs the statistics of calibration inputs."""
        return needs_statistics(self.scorer, self.mitigation, self.as_published)

    @property
    def preparation(self) -> str | None:
        """What a job of its own makes for it: "trained_parameters", "pruned_weights" or nothing."""
        made = {"train": "trained_parameters", "sparsegpt": "pruned_weights", None: None}
        return made[needs_parameters(self.scorer, self.mitigation, self.as_published)]

    @property
    def scorer(self) -> str:
        return self.params.get("scorer", "magnitude")

    @property
    def mitigation(self) -> str:
        return self.params.get("mitigation", "none")

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
            SCORERS[self.scorer],
            MITIGATIONS[self.mitigation],
        ]
        extra = {"threshold": ["actsparse.methods.thresholds"], "codebook": CODEBOOK_MODULES}.get(
            self.method, []
        )
        if self.preparation == "pruned_weights":
            classes += [PATTERNS["full"], MITIGATIONS["stored_weights"]]
        if self.sparsities:
            extra = ["actsparse.methods.sparsity_table"]
        return [name.partition(":")[0] for name in classes] + extra


def expand(experiments: dict[str, dict], methods: dict[str, dict]) -> dict[str, Experiment]:
    """Expand lists, fill in the defaults of each method, and return the experiments by slug.

    `methods` maps each method to its schema. Raises ConfigError on values that a method does not allow, and
    on two experiments with one slug.
    """
    grid: dict[str, Experiment] = {}
    for name, raw in experiments.items():
        spec = raw if "preset" in raw else {"method": "dense", **raw}
        if "method" in spec and spec["method"] not in methods:
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
            if "preset" in params:
                params = _from_preset(f"experiments.{name}", **params)
            check(params, methods[params["method"]], f"experiments.{name}")
            slug = "-".join([name, *(f"{SLUG_LABELS.get(key, key)}{_word(chosen[key])}" for key in varied)])
            if slug in grid:
                raise ConfigError(f"experiments.{name}: a second experiment is called {slug!r}")
            grid[slug] = Experiment(slug, params.pop("method"), params)
    return grid


def _from_preset(where: str, preset: str, **arguments: Any) -> dict[str, Any]:
    if preset not in PRESETS:
        raise ConfigError(f"{where}.preset: {preset!r} is unknown (allowed: {', '.join(PRESETS)})")
    known = signature(PRESETS[preset]).parameters
    required = [name for name, parameter in known.items() if parameter.default is parameter.empty]
    if not set(required) <= set(arguments) <= set(known):
        optional = [f"{name} if wanted" for name in known if name not in required]
        raise ConfigError(
            f"{where}: preset {preset} is given {', '.join(sorted(arguments)) or 'nothing'} "
            f"(it takes {', '.join(required + optional)}, and nothing else)"
        )
    return PRESETS[preset](**arguments)


def patterns_slug(params: dict[str, Any]) -> str:
    """Return the name of the patterns that an experiment's codebook is fitted to."""
    suffixes = {
        "-thresholded": params["patterns_of"] == "thresholded",
        "-contribution": params["importance"] == "contribution",
        "-published": params["as_published"],
    }
    return f"{params['threshold']}{''.join(suffix for suffix, wanted in suffixes.items() if wanted)}"


def codebook_slug(params: dict[str, Any]) -> str:
    """Return the name of the codebook that an experiment with these parameters uses."""
    size = f"k{params['clusters']}-s{params['centroid_sparsity']}"
    if "centroids" in params:
        return f"given-{digest_of(params['centroids'])[:8]}-{size}"
    usual = {"groups": 1, "allocation": "uniform"}
    unusual = {key: params[key] for key, value in usual.items() if params[key] != value}
    options = [
        f"-{SLUG_LABELS.get(key, key)}{_word(value)}"
        for key, value in {**unusual, **codebook_options(params)}.items()
    ]
    return f"{params['algorithm']}-{params['scope']}-t{patterns_slug(params)}-{size}{''.join(options)}"


def codebook_options(params: dict[str, Any]) -> dict[str, Any]:
    """Return those of an experiment's parameters that its algorithm alone knows."""
    return {key: params[key] for key in OPTIONS if key in params}


def _word(value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9._]", "_", str(value).replace(":", "of"))
