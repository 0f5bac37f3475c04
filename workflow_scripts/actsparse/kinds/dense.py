"""dense: the model as it is, which the others are compared with."""

from actsparse.kinds.kind import Kind


class Dense(Kind):
    """Nothing is pruned."""

    word = "dense"
    description = "The model as it is."
    legend = "dense"
    pruning = "none"
    target_sparsity = 0.0
    modules = (f"{__name__}:Dense.build",)

    def needs(self, slug: str) -> dict:
        """Return nothing."""
        return {}

    def build(self) -> None:
        """Return None: no scheme."""
        return None
