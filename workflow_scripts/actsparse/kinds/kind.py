"""What a kind of experiment is: all that the workflow asks of one, with answers that suit most."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from actsparse.artifacts import METADATA, Need
from actsparse.columns import ExtraRows
from actsparse.errors import ConfigError
from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.patterns.notation import parse_pattern
from actsparse.methods.scorers import SCORERS
from actsparse.registry import Member

if TYPE_CHECKING:
    from actsparse.methods.sparsify import Scheme

Shape = dict[str, int]


@dataclass(frozen=True)
class Kind(ABC):
    """One experiment of a kind: its parameters, defaults filled in.

    A kind is one file with a class made from this one. It says:
        word: of the config's key `method`.
        description, keys, required: its part of the config's schema; `keys` in the words of JSON schema.
        legend: its words in figures.
        labels: how a key is written in the name of an experiment that a list of values makes; in full, if not
            here.
        legends: how a figure tells the value of a key; as the value itself, or "key value" for numbers, if
            not here.
        extra_rows: the source of tables that its results have rows for, besides their own.

    Nothing here imports torch but `build`.
    """

    params: dict[str, Any]

    word: ClassVar[str]
    description: ClassVar[str]
    keys: ClassVar[dict[str, dict]] = {}
    required: ClassVar[tuple[str, ...]] = ()
    legend: ClassVar[str]
    labels: ClassVar[dict[str, str]] = {}
    legends: ClassVar[dict[str, str]] = {}
    extra_rows: ClassVar[ExtraRows | None] = None

    @classmethod
    def of(cls, params: dict[str, Any]) -> "Kind":
        """Return an experiment with some parameters, the others as they are by default."""
        defaults = {key: part["default"] for key, part in cls.keys.items() if "default" in part}
        return cls(defaults | params)

    # The config's side.

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return its part of the schema of a config."""
        return {
            "description": cls.description,
            "type": "object",
            "additionalProperties": False,
            "required": [key for key in ("method", *cls.required) if cls.required],
            "properties": {"method": {"const": cls.word}, **cls.keys},
        }

    @property
    def side(self) -> Literal["input", "output", "weight"] | None:
        """What of a layer is pruned; None for nothing."""
        return None

    @property
    def pattern(self) -> tuple[str | None, tuple]:
        """The word of its pattern, and the pattern's arguments as the config has them."""
        return parse_pattern(self.params["pattern"]) if "pattern" in self.params else (None, ())

    @property
    def scorer(self) -> Member:
        """What ranks."""
        return SCORERS[self.params.get("scorer", "magnitude")]

    @property
    def mitigation(self) -> Member:
        """What corrects the error."""
        return MITIGATIONS[self.params.get("mitigation", "none")]

    @property
    def as_published(self) -> bool:
        """Whether the artifact's own arithmetic is wanted where it differs from the corrected one."""
        return self.params.get("as_published", False)

    @property
    def draws(self) -> bool:
        """Whether its scorer draws random numbers."""
        says = self.scorer.says
        return bool(says.get("seeded") or (self.as_published and says.get("seeded_as_published")))

    @property
    def seeded_by(self) -> str | None:
        """What of it depends on a seed; None for nothing: another seed would give the same results."""
        return None

    def ignores(self) -> dict[str, str]:
        """Return {key: why} of the keys that such an experiment would ignore; none of them may be given."""
        return {}

    def check(self, where: str, config: dict[str, Any], root: Path) -> None:  # noqa: B027
        """Raise ConfigError for what no schema can tell; `where` is the experiment's key in the config."""

    def check_sizes(  # noqa: B027 - most fit any
        self, where: str, config: dict[str, Any], model: str, shape: Shape, root: Path
    ) -> None:
        """Raise ConfigError where a model of this shape does not fit."""

    # The workflow's side.

    @abstractmethod
    def needs(self, slug: str) -> dict[str, Need | str]:
        """Return what `build` is given, by name: artifacts, or paths of the user's own files."""

    @property
    def modules(self) -> list[str]:
        """The library modules that its results depend on, beyond those that every result does."""
        members = [self.scorer, self.mitigation]
        return [
            f"{type(self).__module__}:{type(self).__name__}.build",
            *(member.module for member in members),
        ]

    @property
    def first_windows(self) -> int | None:
        """How many windows of a text it is measured on, the first ones; None for all."""
        return None

    @abstractmethod
    def build(self, **files: str | Path) -> "Scheme | None":
        """Return the scheme, given the files that it needs; None leaves the model dense."""

    # The reports' side.

    @property
    @abstractmethod
    def target_sparsity(self) -> float:
        """The sparsity that is asked for; NaN where that is no one number."""

    @property
    def pruning(self) -> str:
        """The experiment in the words of the published N:M tables."""
        return self.word

    @property
    def published_row(self) -> str:
        """The row of a published table that it belongs to."""
        return self.pruning

    @property
    def is_plain(self) -> bool:
        """Whether it ranks by magnitude, corrects nothing, takes all layers: as published rows do."""
        defaults = {"scorer": "magnitude", "mitigation": "none", "layers": None}
        return all(self.params.get(key, default) == default for key, default in defaults.items())

    def series(self) -> list[str]:
        """Return the words of the figures' series that it belongs to."""
        return [self.legend]

    def rows(self, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of `extra_rows` that a result makes."""
        yield from ()

    @classmethod
    def told_rows(cls, config: dict[str, Any]) -> str:
        """Return what `extra_rows` were measured on, as a sentence for captions."""
        return ""

    def touches(self, projection: str) -> bool:
        """Tell whether a projection is among the experiment's."""
        return any(re.fullmatch(word, projection) for word in self.params["projections"])


def require_file(where: str, path: str, config: dict[str, Any], root: Path, hint: str = "") -> None:
    """Raise ConfigError when a file or folder of the user is not there; `hint` ends the message.

    A study restored from its archive has results, and none of the files they were made from.
    """
    restored = root / "results" / config["study"] / METADATA
    if not (root / path).exists() and not restored.exists():
        raise ConfigError(f"{where}: no such file or folder: {path}{hint}")


def require_calibration(where: str, config: dict[str, Any]) -> None:
    """Raise ConfigError when a study has no calibration text."""
    if "calibration" not in config:
        raise ConfigError(f"calibration: missing (required by {where})")


def slug_word(value: Any) -> str:
    """Return a value as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._]", "_", str(value).replace(":", "of"))
