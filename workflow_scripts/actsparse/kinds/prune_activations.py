"""prune_activations: inputs of linear layers are pruned (arXiv 2509.22166)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsparse.artifacts import Need
from actsparse.errors import ConfigError
from actsparse.kinds.keys import AS_PUBLISHED, EVERYTHING, LAYERS, PATTERN, projections
from actsparse.kinds.kind import require_calibration
from actsparse.kinds.pruning import Pruning
from actsparse.methods.combinations import rotation_refusal
from actsparse.methods.rotations import ROTATIONS
from actsparse.registry import Member

if TYPE_CHECKING:
    from actsparse.methods.sparsify import Scheme


class PruneActivations(Pruning):
    """Each token keeps the inputs of a layer that its pattern leaves it."""

    word = "prune_activations"
    description = "Inputs of linear layers are pruned."
    prunes = "input"
    keys = {
        "pattern": PATTERN,
        "scorer": {"description": "What ranks the inputs.", "type": "string", "default": "magnitude"},
        "mitigation": {"description": "How the error is corrected.", "type": "string", "default": "none"},
        "rotation": {
            "description": (
                "The orthogonal basis in which what blocks read of the hidden states is ranked and pruned; "
                "their own channels without it."
            ),
            "type": "string",
        },
        "rank": {"description": "Rank of mitigation low_rank.", "type": "integer", "minimum": 1},
        "as_published": AS_PUBLISHED,
        "layers": LAYERS,
        "projections": projections(EVERYTHING),
    }
    required = ("pattern",)
    legend = "pruned activations"

    labels = {**Pruning.labels, "rotation": ""}

    @property
    def rotation(self) -> Member | None:
        """In which basis inputs are pruned; None for their own channels."""
        return ROTATIONS[self.params["rotation"]] if "rotation" in self.params else None

    def needs(self, slug: str) -> dict[str, Need | str]:
        """Return what its rotation is made of, too."""
        made_by = self.rotation and self.rotation.says.get("made_by")
        return super().needs(slug) | ({made_by: Need(made_by)} if made_by else {})

    @property
    def modules(self) -> list[str]:
        """Beyond the usual, the module of its rotation."""
        return [*super().modules, *([self.rotation.module] if self.rotation else [])]

    def check(self, where: str, config: dict[str, Any], root: Path) -> None:
        """Raise ConfigError, too, for what knows nothing of another basis, and for a missing text."""
        super().check(where, config, root)
        if self.rotation is None:
            return
        if reason := rotation_refusal(self.scorer.word, self.mitigation.word):
            raise ConfigError(f"{where}.rotation: {reason}")
        if self.rotation.says.get("made_by"):
            require_calibration(where, config)

    @property
    def is_plain(self) -> bool:
        """Whether it is as published rows are: in the channels' own basis, too."""
        return super().is_plain and self.rotation is None

    def series(self) -> list[str]:
        """Return the rotation, too."""
        return [*super().series(), *([self.rotation.word] if self.rotation else [])]

    def build(
        self,
        statistics: str | Path | None = None,
        parameters: str | Path | None = None,
        rotations: str | Path | None = None,
        sparsities: str | Path | None = None,
    ) -> "Scheme":
        """Return the scheme, given statistics and parameters by site and a table of sparsities, as needed."""
        from actsparse.methods.building import build_scheme, pattern_of, published_pattern

        pattern = published_pattern(self.params, pattern_of(self.params["pattern"], sparsities), "input")
        tables = {"statistics": statistics, "parameters": parameters, "rotations": rotations}
        return build_scheme("input", self.params, pattern, **tables)
