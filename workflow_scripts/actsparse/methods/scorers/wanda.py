"""Wanda (arXiv 2306.11695): pruning weights by weights and activations."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.methods.per_site import PerSite, of_site
from actsparse.models.sites import Site


@dataclass
class Wanda:
    """Scores of a weight are abs(W_oi) * norm(X_:,i) over calibration tokens; rows are compared on their own.

    Norms are those of the dense model's inputs. As published they are taken layer after layer from the model
    that is already pruned up to there, by a job of its own (`actsparse.calibration.wanda`).
    """

    word = "wanda"
    ranks = ("weight",)
    statistics = True
    made_by_as_published = "pruned_weights"

    statistics: PerSite

    reads_site = True

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return float32 scores of the shape of `x`, a weight (out, in)."""
        return x.float().abs() * of_site(self.statistics, site, "norm", like=x).float()
