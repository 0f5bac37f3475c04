"""Sites: the places of a decoder where sparsity is applied, found by name."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import nn

Side = Literal["input", "output", "weight"]

# Architectures that use another word for the same projection.
SYNONYMS = {"out_proj": "o_proj", "fc1": "up_proj", "fc2": "down_proj"}


@dataclass(frozen=True)
class Site:
    """One projection of one decoder layer, on its input, its output or its weight."""

    layer: int
    projection: str
    side: Side
    name: str
    module: nn.Linear

    @property
    def width(self) -> int:
        """Number of elements of the last dimension of what is pruned here."""
        return self.module.out_features if self.side == "output" else self.module.in_features


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the language model's decoder layers.

    Raises ValueError that lists the linear layers of a model that has no such list.
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"{type(model).__name__}: no decoder layers found; {_linear_layers(model)}")
    return layers


def find_sites(model: nn.Module, projections: Iterable[str], side: Side) -> list[Site]:
    """Return the sites whose projection fully matches one of `projections` (names or regular expressions).

    Order: by layer, then as the module tree has them. Raises ValueError when a projection matches nothing.
    """
    layers = decoder_layers(model)
    names = {id(module): name for name, module in model.named_modules()}
    patterns = {word: re.compile(word) for word in projections}
    unmatched = set(patterns)
    sites = []
    for index, layer in enumerate(layers):
        for path, module in layer.named_modules():
            if not isinstance(module, nn.Linear):
                continue
            leaf = path.rpartition(".")[2]
            projection = SYNONYMS.get(leaf, leaf)
            matched = {word for word, pattern in patterns.items() if pattern.fullmatch(projection)}
            if matched:
                unmatched -= matched
                sites.append(Site(index, projection, side, names[id(module)], module))
    if unmatched:
        raise ValueError(
            f"{type(model).__name__}: no projection matches {', '.join(sorted(unmatched))}; "
            f"{_linear_layers(model)}"
        )
    return sites


def _linear_layers(model: nn.Module) -> str:
    kinds = {
        re.sub(r"\.\d+\.", ".*.", name)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    return f"its linear layers are {', '.join(sorted(kinds)) or 'none'}"
