"""Thresholds: an element survives where its score reaches the threshold of its site (arXiv 2507.14179)."""

from dataclasses import dataclass

from torch import Tensor

from actsparse.models.sites import Site


@dataclass
class Threshold:
    """Keep where score >= values[projection]["layer_<i>"], compared in float32."""

    word = "threshold"  # of the pattern, which the kind of that name is made of
    of_quantiles = True

    values: dict[str, dict[str, float]]

    reads_site = True

    def check(self, site: Site) -> None:
        """Raise ValueError when no threshold is known for the site."""
        if f"layer_{site.layer}" not in self.values.get(site.projection, {}):
            raise ValueError(f"{site.name}: no threshold for {site.projection} of layer {site.layer}")

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return the bool mask of `scores` (any shape)."""
        return scores.float() >= self.values[site.projection][f"layer_{site.layer}"]
