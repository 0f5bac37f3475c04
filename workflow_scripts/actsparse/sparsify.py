"""Apply a sparsification scheme to a model, for as long as a `with` block lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from actsparse.sites import Side, Site, find_sites


class Scorer(Protocol):
    """Ranks elements. `reads_site` tells whether scores depend on more than `x`."""

    reads_site: bool

    def score(self, x: Tensor, site: Site) -> Tensor: ...


class Pattern(Protocol):
    """Selects elements by score. `reads_site` tells whether the mask depends on more than the scores."""

    reads_site: bool

    def check(self, site: Site) -> None: ...

    def mask(self, scores: Tensor, site: Site) -> Tensor: ...


class Mitigation(Protocol):
    """Corrects the error. With `corrects_output`, `correct(y, kept, x, site)` follows the layer."""

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

    def count(self, site: Site, kept: Tensor, total: int) -> None:
        """Add `kept` (a scalar tensor, left on its device) of `total` elements to the site's count."""
        self.kept[site.name] = self.kept.get(site.name, 0) + kept
        self.total[site.name] = self.total.get(site.name, 0) + total

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
    sites = find_sites(model, scheme.projections, scheme.side)
    for site in sites:
        scheme.pattern.check(site)
    applied = Applied(sites)
    attach = {"input": _prune_inputs, "output": _prune_outputs, "weight": _prune_weights}[scheme.side]
    undo = attach(scheme, applied)
    try:
        yield applied
    finally:
        for action in undo:
            action()


def prune(x: Tensor, site: Site, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Return the pruned `x` as its layer gets it, and the bool mask; both of `x`'s shape."""
    prepared = scheme.mitigation.prepare(x, site)
    mask = scheme.pattern.mask(scheme.scorer.score(prepared, site), site)
    return scheme.mitigation.restore(prepared * mask, x, site), mask


def _prune_inputs(scheme: Scheme, applied: Applied) -> list:
    last: dict[str, Tensor] = {}  # the latest input and what became of it, shared by the layers it feeds

    def before(site: Site):
        def hook(module, args):
            (x, *rest) = args
            if not (scheme.shares_input and last.get("x") is x):
                pruned, mask = prune(x, site, scheme)
                last.update(x=x, pruned=pruned, kept=mask.count_nonzero())
            applied.count(site, last["kept"], x.numel())
            return (last["pruned"], *rest)

        return hook

    def after(site: Site):
        def hook(module, args, output):
            return scheme.mitigation.correct(output, args[0], last["x"], site)

        return hook

    handles = [site.module.register_forward_pre_hook(before(site)) for site in applied.sites]
    if scheme.mitigation.corrects_output:
        handles += [site.module.register_forward_hook(after(site)) for site in applied.sites]
    return [handle.remove for handle in handles] + [last.clear]


def _prune_outputs(scheme: Scheme, applied: Applied) -> list:
    def after(site: Site):
        def hook(module, args, output):
            pruned, mask = prune(output, site, scheme)
            applied.count(site, mask.count_nonzero(), output.numel())
            return pruned

        return hook

    return [site.module.register_forward_hook(after(site)).remove for site in applied.sites]


def _prune_weights(scheme: Scheme, applied: Applied) -> list:
    undo = []
    try:
        for site in applied.sites:
            weight = site.module.weight
            dense = weight.data
            undo.append(lambda weight=weight, dense=dense: setattr(weight, "data", dense))
            with torch.no_grad():
                weight.data, _ = prune(dense, site, scheme)
            applied.count(site, weight.data.count_nonzero(), dense.numel())
    except BaseException:
        for action in undo:
            action()
        raise
    return undo
