"""Modules that stand in for linear layers while a scheme is executed: several layers, one product."""

from torch import Tensor, nn
from torch.nn.functional import linear

from actsparse.methods.execution.products import Engine
from actsparse.methods.execution.weights import Weights


class Product:
    """The linear layers of one input as one product, x (..., in) to (..., out); dense.

    More rows than `batch` are a prompt: multiplied as torch does it, for arithmetic bounds them, not bytes.
    No module itself: what modules cost in Python is, for one token, as much as a small product.
    """

    def __init__(self, weights: Weights, engine: Engine, counts: Tensor, batch: int):
        self.weights, self.engine, self.counts, self.batch = weights, engine, counts, batch
        self.latest: tuple[Tensor, tuple[Tensor, ...]] | None = None
        self.waiting = 0

    def few(self, x: Tensor) -> bool:
        """Tell whether `x` has so few rows that reading the weights is what takes the time."""
        return x.numel() <= self.batch * x.shape[-1]

    def __call__(self, x: Tensor) -> Tensor:
        if self.few(x):
            return self.engine.dense(x, self.weights, self.counts)
        return linear(x, self.weights.floating(), self.weights.bias)

    def output_of(self, layer: int, x: Tensor) -> Tensor:
        """Return the output of one of the layers; what was computed for all waits for the others."""
        if len(self.weights.sizes) == 1:
            return self(x)
        if self.latest is None or self.latest[0] is not x:
            self.latest, self.waiting = (
                (x, self(x).split(self.weights.sizes, dim=-1)),
                len(self.weights.sizes),
            )
        result = self.latest[1][layer]
        self.waiting -= 1
        if not self.waiting:
            self.latest = None
        return result


class Part(nn.Module):
    """A linear layer's place in the model: its share of a product. `weight` is the layer's.

    Whoever needs the outputs of all `product.weights.layers` may call `product` instead.
    """

    def __init__(self, product: Product, layer: int):
        super().__init__()
        self.product, self.layer = product, layer
        self.in_features = product.weights.layers[layer].in_features
        self.out_features = product.weights.sizes[layer]

    @property
    def weight(self) -> Tensor:
        """(out, in); empty in int8."""
        return self.product.weights.layers[self.layer].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.product.output_of(self.layer, x)


def replace(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Put `module` into the place called `name`; return what stood there."""
    owner, _, leaf = name.rpartition(".")
    parent = model.get_submodule(owner)
    before = getattr(parent, leaf)
    setattr(parent, leaf, module)
    return before
