"""prune_weights: weights of linear layers are pruned, for comparison (arXiv 2509.22166)."""

from pathlib import Path
from typing import TYPE_CHECKING

from actsparse.kinds.keys import AS_PUBLISHED, EVERYTHING, LAYERS, PATTERN, projections
from actsparse.kinds.pruning import Pruning

if TYPE_CHECKING:
    from actsparse.methods.sparsify import Scheme


class PruneWeights(Pruning):
    """Each row of a weight keeps what its pattern leaves it; some scorers' are pruned beforehand."""

    word = "prune_weights"
    description = "Weights of linear layers are pruned."
    prunes = "weight"
    keys = {
        "pattern": PATTERN,
        "scorer": {"description": "What ranks the weights.", "type": "string", "default": "magnitude"},
        "as_published": AS_PUBLISHED,
        "layers": LAYERS,
        "projections": projections(EVERYTHING),
    }
    required = ("pattern",)
    legend = "pruned weights"

    @property
    def pruning(self) -> str:
        """Its pattern, and that it is of weights."""
        return f"{self.params['pattern']} wt"

    def build(
        self,
        statistics: str | Path | None = None,
        parameters: str | Path | None = None,
        sparsities: str | Path | None = None,
    ) -> "Scheme":
        """Return the scheme; weights that were pruned beforehand (`parameters`) are taken as they are."""
        from actsparse.methods.building import build_scheme, pattern_of, published_pattern
        from actsparse.methods.mitigations.stored_weights import StoredWeights
        from actsparse.methods.patterns.full import Full
        from actsparse.methods.scorers.magnitude import Magnitude

        if parameters is not None:
            return build_scheme(
                "weight",
                self.params,
                Full(),
                parameters=parameters,
                scorer=Magnitude,
                mitigation=StoredWeights,
            )
        pattern = published_pattern(self.params, pattern_of(self.params["pattern"], sparsities), "weight")
        return build_scheme("weight", self.params, pattern, statistics=statistics)
