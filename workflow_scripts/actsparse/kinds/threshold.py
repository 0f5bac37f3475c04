"""threshold: activations below the threshold of their site are zeroed (arXiv 2507.14179, TEAL, CATS)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from actsparse.artifacts import Need
from actsparse.errors import ConfigError
from actsparse.kinds.keys import EVERYTHING, FEED_FORWARD, FRACTION, LAYERS, projections
from actsparse.kinds.kind import Kind, require_calibration
from actsparse.methods.combinations import refusal

if TYPE_CHECKING:
    from actsparse.methods.sparsify import Scheme

# The most of a projection's inputs that TEAL's greedy search drops.
GREEDY_LIMIT = 0.99


class Threshold(Kind):
    """Thresholds are quantiles of magnitudes, of one sparsity for all or of what a search gives each site."""

    word = "threshold"
    description = "Activations below the threshold of their site are zeroed."
    keys = {
        "sparsity": {
            "description": "Quantile of the activations' magnitude at which each site's threshold lies.",
            **FRACTION,
        },
        "allocation": {
            "description": (
                "Every site gets the same sparsity (uniform), or each projection of a layer what TEAL's "
                "search gives it (greedy, only with preset teal)."
            ),
            "enum": ["uniform", "greedy"],
            "default": "uniform",
        },
        "side": {
            "description": "Which of a layer's activations are thresholded.",
            "enum": ["output", "input"],
            "default": "output",
        },
        "scorer": {
            "description": "magnitude, or cats, the magnitude behind the activation function.",
            "type": "string",
            "default": "magnitude",
        },
        "layers": LAYERS,
        "projections": projections(FEED_FORWARD),
    }
    required = ("sparsity",)
    legend = "threshold (FFN outputs)"
    labels = {"sparsity": "", "allocation": "", "scorer": ""}

    @property
    def side(self) -> Literal["input", "output"]:
        """What of a layer is thresholded."""
        return self.params["side"]

    @property
    def searched(self) -> bool:
        """Whether sparsity is shared out by a search."""
        return self.params["allocation"] == "greedy"

    def needs(self, slug: str) -> dict[str, Need]:
        """Return its thresholds, named by sparsity, what they are quantiles of, and its allocation."""
        suffixes = {
            "-inputs": self.side == "input",
            f"-{self.scorer.word}": self.scorer.word != "magnitude",
            "-greedy": self.searched,
        }
        sparsity = self.params["sparsity"]
        name = f"{sparsity}{''.join(suffix for suffix, wanted in suffixes.items() if wanted)}"
        return {"thresholds": Need("thresholds", name, {"searched_to": sparsity if self.searched else 0})}

    def check(self, where: str, config: dict[str, Any], root: Path) -> None:
        """Raise ConfigError for a scorer that cannot be counted, and a search that cannot be made."""
        if reason := refusal(self.side, self.scorer.word, self.word, "none"):
            raise ConfigError(f"{where}: {reason}")
        require_calibration(where, config)
        if not self.searched:
            return
        every = set(self.params["projections"]) == set(EVERYTHING)
        if self.side != "input" or not every or self.params.get("layers"):
            raise ConfigError(
                f"{where}.allocation: greedy shares sparsity among the inputs of all projections of a layer "
                "(allowed with preset teal)"
            )
        if self.params["sparsity"] > GREEDY_LIMIT:
            raise ConfigError(
                f"{where}.sparsity: {self.params['sparsity']} is not allowed (with allocation greedy at most "
                f"{GREEDY_LIMIT})"
            )

    def build(self, thresholds: str | Path) -> "Scheme":
        """Return the scheme, given a file of thresholds."""
        from actsparse.methods.building import build_scheme
        from actsparse.methods.patterns.threshold import Threshold as Pattern
        from actsparse.methods.thresholds import load_thresholds

        return build_scheme(self.params["side"], self.params, Pattern(load_thresholds(thresholds)))

    @property
    def target_sparsity(self) -> float:
        """The sparsity that its thresholds are quantiles of."""
        return self.params["sparsity"]

    @property
    def published_row(self) -> str:
        """The published tables of thresholds have a row for each sparsity."""
        return f"{self.word} {self.params['sparsity']:g}"

    @property
    def is_plain(self) -> bool:
        """Whether it is of outputs as well."""
        return super().is_plain and self.side == "output"

    def series(self) -> list[str]:
        """Return of what thresholds are; how sparsity is shared out and what ranks, where that is unusual."""
        said = [self.params[key] for key in ("allocation", "scorer")]
        first = "threshold (inputs)" if self.side == "input" else self.legend
        return [first, *(word for word in said if word not in ("uniform", "magnitude"))]
