"""Binary k-means: Hamming distance and rounded means, as in the artifact's simplest script."""

from dataclasses import dataclass

from actsparse.codebooks.penalised import Penalised


@dataclass(frozen=True)
class BinaryKMeans(Penalised):
    """`Penalised`, with lost and needless neurons counting the same."""

    word = "binary_kmeans"
    fixed = ("lost_weight",)

    lost_weight: int = 1
