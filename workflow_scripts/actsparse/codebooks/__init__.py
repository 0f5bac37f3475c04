"""Codebooks of activation patterns: K binary centroids for the patterns of a projection (arXiv 2507.14179).

Importing this package does not import torch, so that a configuration can be checked against the registry.
"""

from importlib import import_module

ALGORITHMS = {
    "coverage": "actsparse.codebooks.coverage:Coverage",
    "activation_aware": "actsparse.codebooks.activation_aware:ActivationAware",
}
SCOPES = ("pooled", "per_layer")


def algorithm_named(name: str) -> type:
    """Return the clustering algorithm registered as `name`. Raises ValueError naming the known ones."""
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm: {name!r} is unknown (allowed: {', '.join(ALGORITHMS)})")
    module, attribute = ALGORITHMS[name].split(":")
    return getattr(import_module(module), attribute)
