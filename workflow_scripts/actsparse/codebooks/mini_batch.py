"""Coverage in mini-batches: centroids move after each batch, so that few passes suffice."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from actsparse.codebooks.alternation import Stream, completed, neuron_totals
from actsparse.codebooks.assign import assign
from actsparse.codebooks.seeding import choose_seeds
from actsparse.codebooks.update import add_to_sums, no_sums, top_entries

BATCH_ROWS_PER_CENTROID = 8


@dataclass(frozen=True)
class MiniBatch:
    """As `Coverage`, with `steps` passes over the patterns.

    A centroid is the most active neurons of the sum of all members it has had, older passes halved.
    """

    word = "mini_batch"
    options = ("replace_below",)

    steps: int
    seed: int
    seeding: str = "random"
    seed_sparsity: float = 0.0

    def fit(
        self, patterns: Iterable[Tensor], width: int, clusters: int, ones: int
    ) -> tuple[Tensor, list[int]]:
        """Fit centroids as `Coverage.fit` does; the objective is summed while the centroids move."""
        stream = Stream(patterns)
        seeds = choose_seeds(stream, width, clusters, self.seeding, self.seed, self.seed_sparsity)
        centroids = completed(seeds, width, ones, neuron_totals(stream, width)[0])
        sums, objective = no_sums(clusters, width, centroids.device), []
        for _ in range(self.steps):
            sums >>= 1
            objective.append(0)
            for block in stream:
                for batch in block.patterns.split(BATCH_ROWS_PER_CENTROID * clusters):
                    index, overlap = assign(batch, centroids, width)
                    add_to_sums(sums, batch, index)
                    moved = index.unique()
                    centroids[moved] = top_entries(sums[moved], ones)
                    objective[-1] += int(overlap.sum())
        return centroids, [
            *objective,
            sum(int(assign(b.patterns, centroids, width)[1].sum()) for b in stream),
        ]
