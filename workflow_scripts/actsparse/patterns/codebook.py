"""Codebook patterns: a token keeps the active neurons that its centroid covers (arXiv 2507.14179)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from actsparse.codebooks.assign import assign, centroid_masks
from actsparse.codebooks.codebook import Codebook
from actsparse.packing import pack, unpack
from actsparse.patterns.threshold import Threshold
from actsparse.sites import Site
from actsparse.thresholds import Thresholds


@dataclass
class CodebookPattern:
    """mask = m and c_k; m: scores that reach the site's threshold, c_k: the centroid that covers m best.

    The assignment is the oracle's, from the token's true pattern. While masks are made, recall and precision
    of the centroids, and the recall of the trivial codebook (one centroid per layer), are counted.
    """

    thresholds: Thresholds
    codebooks: dict[str, Codebook]

    reads_site = True
    counts: dict[str, Tensor] = field(default_factory=dict)

    def check(self, site: Site) -> None:
        """Raise ValueError when thresholds or centroids for the site are missing or of another width."""
        Threshold(self.thresholds).check(site)
        codebook = self.codebooks.get(site.projection)
        if codebook is None or codebook.width != site.width or site.layer >= len(codebook.baseline):
            raise ValueError(f"{site.name}: the codebook file has no centroids of its layer and width")

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return the bool mask of `scores` (..., d)."""
        active = Threshold(self.thresholds).mask(scores, site).reshape(-1, site.width)
        codebook = self.codebooks[site.projection]
        centroids = codebook.of_layer(site.layer).to(scores.device)
        index, overlap = assign(pack(active), centroids, site.width)
        chosen = centroid_masks(index, centroids, site.width)
        baseline = unpack(codebook.baseline[site.layer].to(scores.device), site.width)
        counts = torch.stack(
            [
                overlap.sum(),
                active.count_nonzero(),
                chosen.count_nonzero(),
                (active & baseline).count_nonzero(),
            ]
        )
        self.counts[site.projection] = self.counts.get(site.projection, 0) + counts
        return (active & chosen).reshape(scores.shape)

    def measured(self) -> dict[str, dict]:
        """Return {"coverage": {projection: {"recall", "precision", "baseline_recall"}}} of all masks."""
        coverage = {}
        for projection, counts in self.counts.items():
            covered, active, ones, baseline = counts.tolist()
            coverage[projection] = {
                "recall": covered / active,
                "precision": covered / ones,
                "baseline_recall": baseline / active,
            }
        return {"coverage": coverage}
