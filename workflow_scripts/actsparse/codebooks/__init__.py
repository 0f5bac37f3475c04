"""Codebooks of activation patterns: K binary centroids for the patterns of a projection (arXiv 2507.14179).

Importing this package does not import torch, so that a configuration can be checked against the registry.
"""

from importlib import import_module

ALGORITHMS = {
    "coverage": "actsparse.codebooks.coverage:Coverage",
    "activation_aware": "actsparse.codebooks.activation_aware:ActivationAware",
    "spherical": "actsparse.codebooks.spherical:Spherical",
    "mini_batch": "actsparse.codebooks.mini_batch:MiniBatch",
    "as_published": "actsparse.codebooks.as_published:AsPublished",
    "binary_kmeans": "actsparse.codebooks.binary_kmeans:BinaryKMeans",
    "penalised": "actsparse.codebooks.penalised:Penalised",
    "kmeans": "actsparse.codebooks.kmeans:KMeans",
    "mini_batch_kmeans": "actsparse.codebooks.kmeans:MiniBatchKMeans",
    "faiss": "actsparse.codebooks.kmeans:FaissKMeans",
}
SCOPES = ("pooled", "per_layer")

LIBRARIES = ("kmeans", "mini_batch_kmeans", "faiss")  # they compute on the CPU
_SEEDED = tuple(name for name in ALGORITHMS if name not in (*LIBRARIES, "as_published"))

# The keys of an experiment that only some algorithms know.
OPTIONS = {
    "seeding": _SEEDED,
    "seed_sparsity": _SEEDED,
    "balanced": ("coverage", "activation_aware"),
    "warm_up": ("coverage",),
    "validation": ("coverage", "activation_aware"),
    "update_power": ("activation_aware", "spherical"),
    "assign_power": ("activation_aware", "spherical"),
    "prior": ("spherical",),
    "lost_weight": ("penalised",),
    # Of those whose objective is what the centroids cover.
    "replace_below": tuple(name for name in ALGORITHMS if name not in ("binary_kmeans", "penalised")),
}
NEED_MAGNITUDES = ("activation_aware", "spherical")
# Their steps are sums of integers, which several processes can share; `balanced`, which looks at what comes
# together, cannot.
DATA_PARALLEL = ("coverage", "activation_aware", "spherical", "binary_kmeans", "penalised")


def algorithm_named(name: str) -> type:
    """Return the clustering algorithm registered as `name`. Raises ValueError naming the known ones."""
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm: {name!r} is unknown (allowed: {', '.join(ALGORITHMS)})")
    module, attribute = ALGORITHMS[name].split(":")
    return getattr(import_module(module), attribute)
