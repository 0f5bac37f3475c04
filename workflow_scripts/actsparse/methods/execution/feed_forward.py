"""Feed-forward networks of which neurons are skipped: rows of gate and up, and inputs of down."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from actsparse.methods.execution.modules import Product
from actsparse.methods.execution.products import Engine, Selection
from actsparse.methods.execution.refusal import CannotExecute
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.scorers.cats import Cats
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme, prune
from actsparse.models.sites import Site

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


class SkipsNeurons(nn.Module):
    """down(act(gate(x)) * up(x)) with the outputs of gate and up pruned as `scheme` says of its sites.

    Gate runs first, then up where gate is not zero, then down where their product is not. Where only up is
    pruned it runs first. Where routers predict a centroid, neither is computed outside it.
    """

    def __init__(
        self,
        block: nn.Module,
        sites: dict[str, Site],
        scheme: Scheme,
        products: dict[str, Product],
        engine: Engine,
        counts: Tensor,
        sparse_prefill: bool,
    ):
        super().__init__()
        self.act_fn, self.sites, self.scheme, self.products = block.act_fn, sites, scheme, products
        self.engine, self.counts, self.sparse_prefill = engine, counts, sparse_prefill
        self.order = ("gate_proj", "up_proj") if "gate_proj" in sites else ("up_proj", "gate_proj")

    def forward(self, x: Tensor) -> Tensor:
        few = self.products["gate_proj"].few(x)
        pruned = few or self.sparse_prefill
        outputs: dict[str, Tensor] = {}
        keep = None
        for word in self.order:
            possible = self._predicted(x, word) if pruned else None
            if possible is not None:
                keep = possible if keep is None else keep & possible
            y = self._outputs(x, word, keep, few)
            outputs[word] = self._pruned(y, word, possible) if pruned else y
            keep = outputs[word] != 0 if pruned else None
        hidden = self.act_fn(outputs["gate_proj"]) * outputs["up_proj"]
        down = self.products["down_proj"].weights
        if few:
            y = self.engine.skip_inputs(hidden, down, Selection(), self.counts)
        else:
            y = linear(hidden, down.floating(), down.bias)
        return self._pruned(y, "down_proj", self._predicted(x, "down_proj")) if pruned else y

    def _outputs(self, x: Tensor, word: str, keep: Tensor | None, few: bool) -> Tensor:
        weights = self.products[word].weights
        if not few:
            y = linear(x, weights.floating(), weights.bias)
            return y if keep is None else torch.where(keep, y, 0)
        if keep is None:
            return self.engine.dense(x, weights, self.counts)
        return self.engine.skip_outputs(x, weights, keep, self.counts)

    def _predicted(self, x: Tensor, word: str) -> Tensor | None:
        """Return which outputs can survive, bool (..., D), where that is known before they are computed."""
        if word not in self.sites or not hasattr(self.scheme.pattern, "predict"):
            return None
        return self.scheme.pattern.predict(x, self.sites[word])

    def _pruned(self, y: Tensor, word: str, possible: Tensor | None) -> Tensor:
        if word not in self.sites:
            return y
        if possible is None:
            return prune(y, self.sites[word], self.scheme).values
        return torch.where(self.scheme.pattern.survive(y, possible, self.sites[word]), y, 0)


def check_outputs(model: nn.Module, scheme: Scheme, sites: list[Site]) -> None:
    """Raise CannotExecute when nothing can be skipped at these outputs, or not what `scheme` says."""
    for site in sites:
        if site.projection not in PROJECTIONS:
            raise CannotExecute(f"{site.name}: its outputs are known after the product; none can be skipped")
        if not all(isinstance(getattr(site.block, word, None), nn.Linear) for word in PROJECTIONS):
            raise CannotExecute(
                f"{site.name}: {type(site.block).__name__} has no {', '.join(PROJECTIONS)} to skip neurons of"
            )
    if type(scheme.mitigation) is not NoMitigation:
        raise CannotExecute(
            f"mitigation {type(scheme.mitigation).__name__} of outputs: it needs those that are skipped"
        )
    pruned = {site.projection for site in sites}
    if not pruned & {"gate_proj", "up_proj"}:
        raise CannotExecute("outputs of down_proj are known after the product; none can be skipped")
    pattern = scheme.pattern
    if hasattr(pattern, "predict"):
        if pattern.routers is None:
            raise CannotExecute(
                "a codebook without routers: its centroids are chosen by the outputs themselves"
            )
    elif {"gate_proj", "up_proj"} <= pruned and not (
        type(pattern) is Threshold and type(scheme.scorer) in (Magnitude, Cats)
    ):
        raise CannotExecute(
            f"{type(pattern).__name__} by {type(scheme.scorer).__name__} compares outputs of up_proj with "
            "some that gate_proj has skipped"
        )
    for block in {type(site.block): site.block for site in sites}.values():
        _check_form(block)


@torch.inference_mode()
def _check_form(block: nn.Module) -> None:
    weight = block.gate_proj.weight
    act = getattr(block, "act_fn", None)
    if act is None or act(weight.new_zeros(1)).item() != 0:
        raise CannotExecute(f"{type(block).__name__}: its activation function does not keep zero zero")
    x = torch.linspace(-1, 1, weight.shape[1], dtype=weight.dtype, device=weight.device)[None, None]
    ours = block.down_proj(act(block.gate_proj(x)) * block.up_proj(x))
    if not torch.equal(ours, block(x)):
        raise CannotExecute(f"{type(block).__name__} is not down_proj(act_fn(gate_proj(x)) * up_proj(x))")
