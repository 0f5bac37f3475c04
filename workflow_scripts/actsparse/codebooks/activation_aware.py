"""Coverage of what neurons are worth: active neurons weigh abs(activation)^p, normalised in each layer.

A weight in the update makes centroids keep the neurons whose loss costs most; in the assignment it chooses
the centroid that keeps most of this token. The two powers need not be the same, but only if they are does
the objective never fall (up to the rounding of the weights).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from actsparse.codebooks.alternation import Block, Stream, alternate
from actsparse.codebooks.seeding import choose_seeds


@dataclass(frozen=True)
class ActivationAware:
    """As `Coverage`; update_power, assign_power: p in the update and in the assignment, 0 for none."""

    steps: int
    seed: int
    seeding: str = "random"
    update_power: int = 2
    assign_power: int = 1

    needs_magnitudes = True

    def fit(
        self, patterns: Iterable[Block], width: int, clusters: int, ones: int
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids to a stream of weighted patterns, in all else as `Coverage.fit` does."""
        stream = Stream(patterns)
        seeds = choose_seeds(stream, width, clusters, self.seeding, self.seed)
        return alternate(stream, width, ones, self.steps, seeds)
