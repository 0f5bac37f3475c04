"""prune_activations: inputs of linear layers are pruned (arXiv 2509.22166)."""

from pathlib import Path
from typing import TYPE_CHECKING

from actsparse.kinds.keys import AS_PUBLISHED, EVERYTHING, LAYERS, PATTERN, projections
from actsparse.kinds.pruning import Pruning

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
        "rank": {"description": "Rank of mitigation low_rank.", "type": "integer", "minimum": 1},
        "as_published": AS_PUBLISHED,
        "layers": LAYERS,
        "projections": projections(EVERYTHING),
    }
    required = ("pattern",)
    legend = "pruned activations"

    def build(
        self,
        statistics: str | Path | None = None,
        parameters: str | Path | None = None,
        sparsities: str | Path | None = None,
    ) -> "Scheme":
        """Return the scheme, given statistics and parameters by site and a table of sparsities, as needed."""
        from actsparse.methods.building import build_scheme, pattern_of

        pattern = pattern_of(self.params["pattern"], sparsities)
        return build_scheme("input", self.params, pattern, statistics=statistics, parameters=parameters)
