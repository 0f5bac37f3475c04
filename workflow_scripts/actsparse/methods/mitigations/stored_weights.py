"""Weights that were pruned and updated beforehand (SparseGPT) in place of the dense ones."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.methods.mitigations.mitigation import Mitigation
from actsparse.methods.per_site import PerSite, of_site
from actsparse.models.sites import Site


@dataclass
class StoredWeights(Mitigation):
    """What is pruned is the stored weight, not the model's."""

    parameters: PerSite

    reads_site = True

    def prepare(self, x: Tensor, site: Site) -> Tensor:
        """Return the stored weight of a site; same shape and dtype as `x`, its dense weight."""
        stored = of_site(self.parameters, site, "weight", like=x)
        return stored if site.rows is None else stored[site.rows]
