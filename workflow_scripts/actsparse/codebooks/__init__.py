"""Codebooks of activation patterns (arXiv 2507.14179). Imports calibration, methods and below.

A clustering algorithm is a dataclass with a `fit`, and one file here. It says of itself, in its class:
    word: its word in the config.
    options: what fitting may do for it besides its fields (`validation`, `replace_below`).
    fixed: fields that no config sets.
    shared_by_processes: its steps are sums of integers, which several processes can share; `balanced`, which
        looks at what comes together, they cannot.
    in_chunks: whether `fit` also takes `chunks`, the patterns one sequence after the other, and `sparsity`,
        that of centroids.
    weighs: whether it weighs neurons, and needs magnitudes.
    on_the_cpu: whether it computes there wherever the job runs, as libraries do.
"""

from actsparse.registry import Family

ALGORITHMS = Family("algorithm", __name__, __path__[0])
