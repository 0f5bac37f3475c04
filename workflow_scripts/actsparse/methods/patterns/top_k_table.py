"""Unstructured sparsity with a level of its own for each site."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.methods.patterns.top_k import TopK
from actsparse.models.sites import Site


@dataclass
class TopKTable:
    """TopK with sparsity values[projection]["layer_<i>"] (`actsparse.methods.sparsity_table`)."""

    word = "top_k_table"

    values: dict[str, dict[str, float]]

    reads_site = True

    def check(self, site: Site) -> None:
        """Raise ValueError when the table has no sparsity in [0, 1) for the site."""
        sparsity = self.values.get(site.projection, {}).get(f"layer_{site.layer}")
        if sparsity is None or not 0 <= sparsity < 1:
            raise ValueError(f"{site.name}: its sparsity in the table is {sparsity} (allowed: 0 to below 1)")

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return the bool mask of `scores` (..., d)."""
        return TopK(self.values[site.projection][f"layer_{site.layer}"]).mask(scores, site)
