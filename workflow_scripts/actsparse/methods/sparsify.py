"""Apply a sparsification scheme to a model, for as long as a `with` block lasts."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor, nn

from actsparse.methods.rotations.rotation import Rotation, turn
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.models.sites import Side, Site, find_sites

log = logging.getLogger(__name__)


class Scorer(Protocol):
    """Ranks elements. `reads_site` tells whether scores differ between layers that share one input."""

    reads_site: bool

    def score(self, x: Tensor, site: Site) -> Tensor: ...


class Pattern(Protocol):
    """Selects elements by score. `reads_site` tells whether the mask depends on more than the scores.

    A pattern may have a fast `prune(x, scores)`, with None as scores standing for abs(x); it returns the
    pruned x, how many elements are kept and whether x is finite, or None where only the mask will do.
    One that needs more of the model than scores may have a `watch(sites)`, which returns the function that
    ends it.
    """

    reads_site: bool

    def check(self, site: Site) -> None: ...

    def mask(self, scores: Tensor, site: Site) -> Tensor: ...


class Mitigation(Protocol):
    """Corrects the error. With `corrects_output`, `correct(y, kept, x, site)` returns the layer's new output.

    `x` is the layer's original input, `kept` what it got in its place, y what it made of it.
    """

    reads_site: bool
    corrects_output: bool

    def prepare(self, x: Tensor, site: Site) -> Tensor: ...

    def restore(self, kept: Tensor, x: Tensor, site: Site) -> Tensor: ...


@dataclass(frozen=True)
class Scheme:
    """What is pruned (`side` of `projections`), ranked by what, in which pattern, corrected how."""

    side: Side
    projections: tuple[str, ...]
    scorer: Scorer
    pattern: Pattern
    mitigation: Mitigation
    layers: str | None = None  # which decoder layers, such as "4-27"; None: all
    rotation: Rotation | None = None  # of inputs: the basis in which they are ranked and pruned
    drops_bias: bool = False  # as published (arXiv 2509.22166): the replaced layer never adds its bias

    @property
    def shares_input(self) -> bool:
        """Whether sites fed by one tensor (q, k, v; gate, up) get one and the same pruned tensor."""
        return not (self.scorer.reads_site or self.pattern.reads_site or self.mitigation.reads_site)


@dataclass
class Applied:
    """A scheme at work: its sites, and how many elements it has kept of how many."""

    sites: list[Site]
    kept: dict[str, Tensor | int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    finite: dict[str, Tensor | bool] = field(default_factory=dict)

    def count(self, site: Site, pruned: "Pruned", total: int) -> None:
        """Add what was kept of `total` elements to the site's count (tensors stay on their device)."""
        self.kept[site.name] = self.kept.get(site.name, 0) + pruned.kept
        self.total[site.name] = self.total.get(site.name, 0) + total
        self.finite[site.name] = self.finite.get(site.name, True) & pruned.finite

    @property
    def replaced_linear_layers(self) -> int:
        """Number of linear layers that the scheme changes; the parts of a fused layer are one."""
        return len({id(site.module) for site in self.sites})

    @property
    def not_finite(self) -> list[str]:
        """The sites that have seen a NaN or an infinity, the first in the order of the model first."""
        return [site.name for site in self.sites if not bool(self.finite.get(site.name, True))]

    @property
    def realised_sparsity(self) -> float:
        """Part of the elements that was zeroed, over all sites seen so far; 0.0 for a dense model."""
        total = sum(self.total.values())
        return 1 - sum(int(kept) for kept in self.kept.values()) / total if total else 0.0

    @property
    def realised_sparsity_per_site(self) -> dict[str, float]:
        """The same for each site, by the name of its module."""
        return {name: 1 - int(kept) / self.total[name] for name, kept in self.kept.items()}


@contextmanager
def sparsify(model: nn.Module, scheme: Scheme | None) -> Iterator[Applied]:
    """Prune as `scheme` says inside the block (None: leave the model dense); undo everything after it.

    Raises ValueError, before the model runs, when the scheme does not fit one of its sites.
    """
    if scheme is None:
        yield Applied([])
        return
    sites = find_sites(model, scheme.projections, scheme.side, scheme.layers)
    for site in sites:
        scheme.pattern.check(site)
    applied = Applied(sites)
    attach = {"input": _prune_inputs, "output": _prune_outputs, "weight": _prune_weights}[scheme.side]
    undo: list[Callable[[], None]] = []
    try:
        if scheme.drops_bias:
            _drop_biases(sites, undo)
        if watch := getattr(scheme.pattern, "watch", None):
            undo.append(watch(sites))
        attach(scheme, applied, undo)
        yield applied
    finally:
        for action in reversed(undo):
            action()
        if broken := applied.not_finite:
            log.warning(
                "NaN or infinity at %s%s", broken[0], f" and {len(broken) - 1} sites more" * (len(broken) > 1)
            )


@dataclass
class Pruned:
    """A pruned tensor as its layer gets it, the number of kept elements, and whether it was finite."""

    values: Tensor
    kept: Tensor | int
    finite: Tensor | bool


def prune(x: Tensor, site: Site, scheme: Scheme) -> Pruned:
    """Prune `x` (..., width of the site) as the scheme says, in the basis of its rotation if it has one."""
    basis = None if scheme.rotation is None else scheme.rotation.of(site, x)
    if basis is None:
        return _prune(x, site, scheme)
    pruned = _prune(x.to(basis.dtype) @ basis, turn(site, basis), scheme)
    return Pruned((pruned.values @ basis.T).to(x.dtype), pruned.kept, pruned.finite)


def _prune(x: Tensor, site: Site, scheme: Scheme) -> Pruned:
    prepared = scheme.mitigation.prepare(x, site)
    by_magnitude = type(scheme.scorer) is Magnitude
    scores = None if by_magnitude else scheme.scorer.score(prepared, site)
    fast = getattr(scheme.pattern, "prune", None)
    done = fast(prepared, scores) if fast else None
    if done is None:
        mask = scheme.pattern.mask(prepared.abs() if by_magnitude else scores, site)
        # A sum is finite only if all of its terms are; in float32 it does not overflow.
        finite = prepared.sum(dtype=torch.float32).isfinite()
        done = torch.where(mask, prepared, 0), mask.count_nonzero(), finite
    kept, count, finite = done
    return Pruned(scheme.mitigation.restore(kept, x, site), count, finite)


def _prune_inputs(scheme: Scheme, applied: Applied, undo: list) -> None:
    last: dict = {}  # the latest input and what became of it, shared by the layers it feeds

    def before(site: Site):
        def hook(module, args):
            (x, *rest) = args
            if not (scheme.shares_input and last.get("x") is x):
                last.update(x=x, pruned=prune(x, site, scheme))
            applied.count(site, last["pruned"], x.numel())
            return (last["pruned"].values, *rest)

        return hook

    def after(site: Site):
        def hook(module, args, output):
            return scheme.mitigation.correct(output, args[0], last["x"], site)

        return hook

    undo.append(last.clear)
    for site in applied.sites:
        undo.append(site.module.register_forward_pre_hook(before(site)).remove)
        if scheme.mitigation.corrects_output:
            undo.append(site.module.register_forward_hook(after(site)).remove)


def _prune_outputs(scheme: Scheme, applied: Applied, undo: list) -> None:
    def after(sites: list[Site]):
        def hook(module, args, output):
            result = output if sites[0].rows is None else output.clone()
            for site in sites:
                rows = ... if site.rows is None else (..., site.rows)
                part = output[rows]
                pruned = prune(part, site, scheme)
                applied.count(site, pruned, part.numel())
                if site.rows is None:
                    result = pruned.values
                else:
                    result[rows] = pruned.values
            return result

        return hook

    for _, parts in groupby(applied.sites, key=lambda site: id(site.module)):
        sites = list(parts)
        undo.append(sites[0].module.register_forward_hook(after(sites)).remove)


@torch.no_grad()
def _prune_weights(scheme: Scheme, applied: Applied, undo: list) -> None:
    for site in applied.sites:
        weight = site.module.weight
        dense = weight.data
        undo.append(lambda weight=weight, dense=dense: setattr(weight, "data", dense))
        pruned = prune(site.weight, site, scheme)
        pruned.kept = pruned.values.count_nonzero()
        applied.count(site, pruned, pruned.values.numel())
        if site.rows is None:
            weight.data = pruned.values
        else:
            weight.data = dense.clone()
            weight.data[site.rows] = pruned.values


def _drop_biases(sites: list[Site], undo: list) -> None:
    for module in {id(site.module): site.module for site in sites}.values():
        undo.append(lambda module=module, bias=module.bias: setattr(module, "bias", bias))
        module.bias = None
