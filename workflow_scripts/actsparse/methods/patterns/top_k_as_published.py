"""Unstructured sparsity as the artifact of arXiv 2509.22166 has it."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from actsparse.methods.patterns.top_k import top_k_mask
from actsparse.models.sites import Site


@dataclass
class TopKAsPublished:
    """What is compared with what depends on what is pruned.

    over:
        "row": each token keeps int(d * (1 - sparsity)) elements, in floating-point arithmetic. For 30 % of
            576 that is 403, where TopK keeps 404.
        "batch": of all n * d elements of a batch int(n * d * (1 - sparsity)) are kept, so that a token's
            mask hangs on those that follow it. CLACT and Amber are published so.
        "matrix": weights go that are no larger than number int(sparsity * elements) of the whole matrix,
            counted from 0 upwards.
    """

    sparsity: float
    over: Literal["row", "batch", "matrix"]

    reads_site = False

    def check(self, site: Site) -> None:
        """Any width will do."""

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return the bool mask of `scores` (..., d). Ties go to the earlier element, in a matrix to none."""
        if self.over == "matrix":
            ordered = scores.flatten().sort().values
            return scores > ordered[int(scores.numel() * self.sparsity)]
        rows = scores.reshape(1, -1) if self.over == "batch" else scores
        return top_k_mask(rows, int(rows.shape[-1] * (1.0 - self.sparsity))).reshape(scores.shape)
