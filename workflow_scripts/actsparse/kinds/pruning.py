"""What pruning of activations and of weights have in common."""

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal

from actsparse.artifacts import Need
from actsparse.errors import ConfigError
from actsparse.kinds.kind import Kind, Shape, require_calibration, require_file
from actsparse.methods.combinations import made_by, needs_statistics, refusal
from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.sparsity_table import SparsityTable, read_sparsity_table


class Pruning(Kind):
    """A pattern, what ranks, what corrects: each a word of the config."""

    prunes: ClassVar[Literal["input", "weight"]]
    labels = {"pattern": "", "scorer": "", "mitigation": ""}

    @property
    def side(self) -> Literal["input", "weight"]:
        """What of a layer is pruned."""
        return self.prunes

    @property
    def words(self) -> tuple[str, str, bool]:
        """Scorer, mitigation, and whether it is as published."""
        return self.scorer.word, self.mitigation.word, self.as_published

    @property
    def sparsities(self) -> str | None:
        """The user's table of sparsities that its pattern is, if it is one."""
        word, arguments = self.pattern
        return arguments[0] if word == "top_k_table" else None

    def needs(self, slug: str) -> dict[str, Need | str]:
        """Return calibration statistics, trained parameters and a table of sparsities, as far as needed."""
        found: dict[str, Need | str] = {}
        if self.sparsities is not None:
            found["sparsities"] = self.sparsities
        if needs_statistics(*self.words):
            found["statistics"] = Need("statistics")
        if artifact := made_by(*self.words):
            found["parameters"] = Need(artifact, slug)
        return found

    @property
    def seeded_by(self) -> str | None:
        """Its scorer, if that draws; training and SparseGPT take the calibration windows in their order."""
        return "scorer" if self.draws else None

    @property
    def modules(self) -> list[str]:
        """Beyond the usual, the module of its pattern."""
        word, _ = self.pattern
        return [*super().modules, f"actsparse.methods.patterns.{word}", "actsparse.methods.building"]

    def ignores(self) -> dict[str, str]:
        """Return the options of mitigations that it does not have."""
        own = self.mitigation.says.get("requires", ())
        others = {key for other in MITIGATIONS.values() for key in other.says.get("requires", ())}
        return dict.fromkeys(others - set(own), f"mitigation {self.mitigation.word} has no such option")

    def check(self, where: str, config: dict[str, Any], root: Path) -> None:
        """Raise ConfigError for words that do not go together, and for what they need and is missing."""
        word, arguments = self.pattern
        if word == "n_of_m" and arguments[0] > arguments[1]:
            raise ConfigError(
                f"{where}.pattern: {self.params['pattern']!r} is not allowed (N must not exceed M)"
            )
        if reason := refusal(self.prunes, self.scorer.word, word, self.mitigation.word):
            raise ConfigError(f"{where}: {reason}")
        for key in self.mitigation.says.get("requires", ()):
            if key not in self.params:
                raise ConfigError(f"{where}.{key}: missing (required by mitigation {self.mitigation.word})")
        if needs_statistics(*self.words) or made_by(*self.words):
            require_calibration(where, config)
        if made_by(*self.words) == "trained_parameters":
            _check_training(where, config)
        if self.sparsities is not None:
            self._check_table(f"{where}.pattern", self._table(f"{where}.pattern", config, root))

    def check_sizes(self, where: str, config: dict[str, Any], model: str, shape: Shape, root: Path) -> None:
        """Raise ConfigError where M does not divide a width, or a table of sparsities lacks a layer."""
        word, arguments = self.pattern
        if word == "n_of_m":
            for projection, width in input_widths(shape).items():
                if self.touches(projection) and width % arguments[1]:
                    raise ConfigError(
                        f"{where}.pattern: {self.params['pattern']} does not fit {projection} of {model} "
                        f"(its width {width} is not a multiple of {arguments[1]})"
                    )
        if self.sparsities is not None and not self.params.get("layers"):
            table = self._table(f"{where}.pattern", config, root)
            known = next(iter(table.values()), {})
            for layer in range(shape["num_hidden_layers"]):
                if table and f"layer_{layer}" not in known:
                    raise ConfigError(
                        f"{where}.pattern: {self.sparsities} has no line for layer {layer} of {model}"
                    )

    def _table(self, where: str, config: dict[str, Any], root: Path) -> SparsityTable:
        """Return the table of sparsities, an empty one where a restored study does not have it."""
        require_file(where, self.sparsities, config, root)
        if not (root / self.sparsities).exists():
            return {}
        try:
            return read_sparsity_table(root / self.sparsities)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None

    def _check_table(self, where: str, table: SparsityTable) -> None:
        # What a fused layer is called depends on the model and on the side; the job checks it.
        if not table or {"qkv_proj", "gate_up_proj"} & table.keys():
            return
        for word in self.params["projections"]:
            if not any(re.fullmatch(word, column) for column in table):
                raise ConfigError(f"{where}: {self.sparsities} has no column for {word}")

    @property
    def target_sparsity(self) -> float:
        """1 - N/M, or the fraction; NaN for a table."""
        if self.sparsities is not None:
            return math.nan
        pattern = str(self.params["pattern"])
        return float(1 - Fraction(pattern.replace(":", "/"))) if ":" in pattern else float(pattern)

    @property
    def pruning(self) -> str:
        """Its pattern."""
        return str(self.params["pattern"])

    def series(self) -> list[str]:
        """Return N:M where it is, and what ranks or corrects where it is not the plain way.

        N:M patterns of one sparsity are a series of their own, apart from the unstructured ones of all.
        """
        said = [self.params.get(key, "none") for key in ("scorer", "mitigation")]
        unusual = [word for word in said if word not in ("none", "magnitude")]
        return [self.legend, *["N:M"] * (":" in self.pruning), *unusual]


def input_widths(shape: Shape) -> dict[str, int]:
    """Return the number of inputs of each projection of a model of this shape."""
    hidden, heads = shape["hidden_size"], shape.get("num_attention_heads", 1)
    return {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), hidden),
        "o_proj": heads * shape.get("head_dim", hidden // heads),
        "down_proj": shape["intermediate_size"],
    }


def _check_training(where: str, config: dict[str, Any]) -> None:
    held_out, sequences = config["training"]["validation_sequences"], config["calibration"]["sequences"]
    if sequences is not None and sequences <= held_out:
        raise ConfigError(
            f"training.validation_sequences: {held_out} is not allowed (must be below the {sequences} "
            f"calibration.sequences, which {where} trains on)"
        )
