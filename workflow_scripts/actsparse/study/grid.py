"""From the experiments of a config to the grid: one experiment per combination of listed values."""

from collections.abc import Sequence
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
# Keys of an experiment that are none of its kind's.
OF_THE_STUDY = {"reference", "seeds"}


@dataclass(frozen=True)
class Experiment:
    """One sparsification scheme: its name, and its kind with all parameters, defaults filled in.

    given: the keys that the config gives.
    reference: the experiment that it is to be compared with, in place of the study's.
    repeats: its name without the seed, where it is one of several that differ in their seeds alone.
    """

    slug: str
    kind: Kind
    given: tuple[str, ...] = ()
    reference: str | None = None
    repeats: str | None = None

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


def expand(experiments: dict[str, dict], seed: int = 42, seeds: Sequence[int] = ()) -> dict[str, Experiment]:
    """Expand lists, fill in the defaults of each kind, and return the experiments by slug.

    An experiment that depends on a seed is repeated for each of its own `seeds`, or else of the study's; one
    that does not, or that is given the study's `seed` alone, stays as it is.
    Raises ConfigError on values that a kind does not allow, and on two experiments with one slug, case aside.
    """
    grid: dict[str, Experiment] = {}
    folded: dict[str, str] = {}  # names as a file system sees them that does not tell cases apart
    for name, raw in experiments.items():
        spec = {"method": Dense.word} if "preset" not in raw else {}
        spec |= {key: value for key, value in raw.items() if key not in OF_THE_STUDY}
        if "method" in spec and spec["method"] not in KINDS:
            allowed = ", ".join(KINDS)
            raise ConfigError(
                f"experiments.{name}.method: {spec['method']!r} is not allowed (allowed: {allowed})"
            )
        varied = [key for key, value in spec.items() if isinstance(value, list) and key not in ALWAYS_LISTS]
        for key in varied:
            if not spec[key]:
                raise ConfigError(f"experiments.{name}.{key}: the list is empty (give at least one value)")
        seeded = False
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
            base = "-".join([name, *(f"{labels.get(key, key)}{slug_word(chosen[key])}" for key in varied)])
            repeated = list(raw.get("seeds") or seeds) if _depends_on_a_seed(kind(params)) else []
            seeded = seeded or bool(repeated)
            for own in [None] if repeated in ([], [seed]) else repeated:
                several = len(repeated) > 1
                slug = f"{base}-seed{own}" if several else base
                if slug in grid:
                    raise ConfigError(f"experiments.{name}: a second experiment is called {slug!r}")
                if other := folded.get(slug.lower()):
                    raise ConfigError(
                        f"experiments.{name}: {slug!r} and {other!r} differ in case alone (so would files)"
                    )
                folded[slug.lower()] = slug
                of_seed = kind(params if own is None else params | {"seed": own})
                grid[slug] = Experiment(slug, of_seed, given, raw.get("reference"), base if several else None)
        if "seeds" in raw and not seeded:
            raise ConfigError(f"experiments.{name}.seeds: would be ignored (nothing of it depends on a seed)")
    return grid


def _depends_on_a_seed(kind: Kind) -> bool:
    try:
        return kind.seeded_by is not None
    except ValueError:  # of a word that is unknown, which checks refuse under its own key
        return True


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
