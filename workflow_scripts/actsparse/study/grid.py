"""From the experiments of a config to the grid: one experiment per combination of listed values."""

from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from itertools import product
from typing import Any

from actsparse.artifacts import Need
from actsparse.errors import ConfigError
from actsparse.kinds import KINDS, Kind
from actsparse.kinds.dense import Dense
from actsparse.kinds.kind import slug_word
from actsparse.kinds.presets import PRESET_LABELS, PRESETS
from actsparse.study.schema import check

ALWAYS_LISTS = {"projections"}


@dataclass(frozen=True)
class Experiment:
    """One sparsification scheme: its name, and its kind with all parameters, defaults filled in.

    given: the keys that the config gives.
    reference: the experiment that it is to be compared with, in place of the study's.
    """

    slug: str
    kind: Kind
    given: tuple[str, ...] = ()
    reference: str | None = None

    @property
    def method(self) -> str:
        """The word of its kind."""
        return self.kind.word

    @property
    def params(self) -> dict[str, Any]:
        return self.kind.params

    @cached_property
    def needs(self) -> dict[str, Need | str]:
        """What its scheme is built from, by name: artifacts, or paths of the user's own files."""
        return self.kind.needs(self.slug)


def expand(experiments: dict[str, dict]) -> dict[str, Experiment]:
    """Expand lists, fill in the defaults of each kind, and return the experiments by slug.

    Raises ConfigError on values that a kind does not allow, and on two experiments with one slug, case aside.
    """
    grid: dict[str, Experiment] = {}
    folded: dict[str, str] = {}  # names as a file system sees them that does not tell cases apart
    for name, raw in experiments.items():
        spec = {"method": Dense.word} if "preset" not in raw else {}
        spec |= {key: value for key, value in raw.items() if key != "reference"}
        if "method" in spec and spec["method"] not in KINDS:
            allowed = ", ".join(KINDS)
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
            kind = KINDS[params["method"]]
            given = tuple(sorted(params))
            check(params, kind.schema(), f"experiments.{name}")
            del params["method"]
            labels = kind.labels | (PRESET_LABELS if "preset" in spec else {})
            slug = "-".join([name, *(f"{labels.get(key, key)}{slug_word(chosen[key])}" for key in varied)])
            if slug in grid:
                raise ConfigError(f"experiments.{name}: a second experiment is called {slug!r}")
            if other := folded.get(slug.lower()):
                raise ConfigError(
                    f"experiments.{name}: {slug!r} and {other!r} differ in case alone (so would files)"
                )
            folded[slug.lower()] = slug
            grid[slug] = Experiment(slug, kind(params), given, raw.get("reference"))
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
