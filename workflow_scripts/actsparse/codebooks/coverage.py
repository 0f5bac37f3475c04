"""Codebooks that cover as many active neurons as their size allows: the corrected clustering of 2507.14179.

Given patterns m_i, find K binary centroids c_k with a fixed number of ones that maximise sum_i <m_i, c_a(i)>
by turns: assign each pattern to its best centroid; set each centroid to the most active neurons of its
members. Neither lowers the objective.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from actsparse.codebooks.alternation import Stream, alternate
from actsparse.codebooks.assign import assign
from actsparse.codebooks.balance import assign_balanced
from actsparse.codebooks.seeding import choose_seeds
from actsparse.codebooks.spherical import Spherical


@dataclass(frozen=True)
class Coverage:
    """steps: the largest number of updates. seed, seeding, seed_sparsity: of `choose_seeds`.

    balanced: while fitting, a centroid takes at most its share of each block; the objective may then fall.
    warm_up: updates of `Spherical`, without weights, before its own: centroids then cover more, also of
        patterns that they have not seen.
    """

    word = "coverage"
    options = ("validation", "replace_below")
    shared_by_processes = True

    steps: int
    seed: int
    seeding: str = "random"
    seed_sparsity: float = 0.0
    balanced: bool = False
    warm_up: int = 0

    def fit(
        self,
        patterns: Iterable[Tensor],
        width: int,
        clusters: int,
        ones: int,
        held_out: Iterable[Tensor] | None = None,
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids to a stream of patterns.

        Args:
            patterns: blocks of packed patterns, uint8 (rows, ceil(width / 8)), the same each time it is
                iterated over. One block is held at a time.
            width: neurons in a pattern.
            clusters: K.
            ones: active neurons in each centroid.
            held_out: other patterns; with them the steps end when their objective no longer rises.

        Returns:
            Packed centroids, uint8 (K, ceil(width / 8)), and the objective before each update and at the end.

        Raises:
            ValueError: when there are more clusters than patterns.
        """
        stream = Stream(patterns)
        if self.warm_up:
            start = {"seeding": self.seeding, "seed_sparsity": self.seed_sparsity}
            means = Spherical(self.warm_up, self.seed, **start, update_power=0, assign_power=0)
            seeds, _ = means.fit(patterns, width, clusters, ones)
        else:
            seeds = choose_seeds(stream, width, clusters, self.seeding, self.seed, self.seed_sparsity)
        assignment = assign_balanced if self.balanced else assign
        other = None if held_out is None else Stream(held_out)
        return alternate(stream, width, ones, self.steps, seeds, assignment, other)
