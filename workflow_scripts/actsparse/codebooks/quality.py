"""How well centroids cover activation patterns, beside the trivial centroid of each layer."""

from dataclasses import dataclass

from actsparse.codebooks.assign import assign
from actsparse.codebooks.codebook import Codebook
from actsparse.packing import count_active
from actsparse.pattern_store import PatternStore


@dataclass(frozen=True)
class Quality:
    """Over all patterns m with their centroids c, assigned by the oracle.

    recall: sum(m and c) / sum(m). precision: sum(m and c) / sum(c).
    baseline_recall, baseline_precision: the same with one centroid for each layer.
    """

    recall: float
    precision: float
    baseline_recall: float
    baseline_precision: float


def measure(store: PatternStore, projection: str, codebook: Codebook, tokens: int | None = None) -> Quality:
    """Measure `codebook` on `tokens` evenly spaced tokens of each layer of `store` (all by default).

    Streams the patterns. Raises ValueError when the store's layers or width are not the codebook's.
    """
    if (store.layers, store.widths.get(projection)) != (len(codebook.baseline), codebook.width):
        raise ValueError(f"{store.folder}: layers or width of {projection} are not those of the codebook")
    active = covered = offered = single_covered = single_offered = 0
    for patterns, layer in store.blocks(projection, tokens=tokens):
        centroids, single = codebook.of_layer(layer), codebook.baseline[layer : layer + 1]
        index, overlap = assign(patterns, centroids, codebook.width)
        active += int(count_active(patterns).sum())
        covered += int(overlap.sum())
        offered += int(count_active(centroids)[index].sum())
        single_covered += int(assign(patterns, single, codebook.width)[1].sum())
        single_offered += len(patterns) * int(count_active(single))
    return Quality(
        recall=covered / active,
        precision=covered / offered,
        baseline_recall=single_covered / active,
        baseline_precision=single_covered / single_offered,
    )
