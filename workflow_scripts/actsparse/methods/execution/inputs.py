"""Products whose inputs are pruned: the weights of inputs that are zero are not read."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import linear

from actsparse.kernels.modes import N_OF_M, THRESHOLD, TOP_K
from actsparse.methods.execution.modules import Product
from actsparse.methods.execution.products import Engine, Selection
from actsparse.methods.execution.refusal import CannotExecute
from actsparse.methods.execution.weights import Weights
from actsparse.methods.mitigations.learned_shift import LearnedShift
from actsparse.methods.mitigations.low_rank import LowRank
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.mitigations.scale_shift import ScaleShift
from actsparse.methods.mitigations.shift import MeanShift, Shift
from actsparse.methods.mitigations.smoothing import Smoothing
from actsparse.methods.mitigations.static_shift import StaticShift
from actsparse.methods.mitigations.variance import Variance
from actsparse.methods.mitigations.variance_scale_shift import VarianceScaleShift
from actsparse.methods.patterns.n_of_m import NOfM
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.patterns.top_k_as_published import TopKAsPublished
from actsparse.methods.patterns.top_k_table import TopKTable
from actsparse.methods.scorers.amber import Amber
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.scorers.wina import Wina
from actsparse.methods.sparsify import Scheme, prune
from actsparse.models.sites import Site

# The layer gets prune(x - eta) + eta: W eta is added to the product of what was kept.
SHIFTING = (Shift, MeanShift, StaticShift, LearnedShift)
# What is zero stays zero; what they do to the rest is done before the product or after it.
KEEP_ZEROS = (NoMitigation, Variance, ScaleShift, VarianceScaleShift, Smoothing, LowRank)
# Those that leave the inputs as they are, so that a kernel may select by itself.
LEAVE_INPUTS = (NoMitigation, ScaleShift, *SHIFTING)


def check_inputs(scheme: Scheme) -> None:
    """Raise CannotExecute when there are no zeros to skip behind the rotation or the mitigation."""
    if scheme.rotation is not None:
        raise CannotExecute(f"rotation {scheme.rotation.word}: weights are not turned ahead of time yet")
    kind = type(scheme.mitigation)
    if kind in (LearnedShift, Smoothing) and scheme.mitigation.as_published:
        raise CannotExecute(
            f"mitigation {kind.word} as published takes its values from the batch that it sees; one token at "
            "a time has no such batch"
        )
    if isinstance(scheme.pattern, TopKAsPublished) and scheme.pattern.over == "batch":
        raise CannotExecute(
            "unstructured sparsity as published compares all tokens of a batch; one has no such"
        )
    if kind not in (*SHIFTING, *KEEP_ZEROS):
        raise CannotExecute(f"mitigation {kind.__name__}: it is not known whether zeros stay zero")


class SkipsInputs(Product):
    """The products of layers whose input is pruned as `scheme` says of their `sites`, one for each layer."""

    def __init__(
        self,
        weights: Weights,
        sites: list[Site],
        scheme: Scheme,
        selection: Selection | None,
        engine: Engine,
        counts: Tensor,
        batch: int,
        sparse_prefill: bool,
    ):
        super().__init__(weights, engine, counts, batch)
        self.sites, self.scheme, self.selection = sites, scheme, selection
        self.sparse_prefill = sparse_prefill
        self.shifts = type(scheme.mitigation) in SHIFTING
        if scheme.drops_bias:
            weights.bias = None
        if self.shifts:
            self._prepare_shift()

    def __call__(self, x: Tensor) -> Tensor:
        if not self.few(x):
            return self._prompt(x)
        if self.selection is not None:
            kept = None
            y = self.engine.skip_inputs(self._centred(x), self.weights, self.selection, self.counts)
        else:
            # Of a layer that shifts: without the shift, which the product gets afterwards.
            unshifted = replace(self.scheme, mitigation=NoMitigation()) if self.shifts else self.scheme
            kept = prune(self._centred(x), self.sites[0], unshifted).values
            y = self.engine.skip_inputs(kept, self.weights, Selection(), self.counts)
        if self.shifts:
            y = self._shifted(y, x)
        return self._corrected(y, kept, x)

    def _prompt(self, x: Tensor) -> Tensor:
        weight = self.weights.floating()
        if not self.sparse_prefill:
            return linear(x, weight, self.weights.bias)
        kept = prune(x, self.sites[0], self.scheme).values
        return self._corrected(linear(kept, weight, self.weights.bias), kept, x)

    def _corrected(self, y: Tensor, kept: Tensor | None, x: Tensor) -> Tensor:
        mitigation = self.scheme.mitigation
        if not mitigation.corrects_output:
            return y
        if isinstance(mitigation, LowRank) and self.few(x):
            for site in self.sites:
                self.counts[0] += sum(factor.nbytes for factor in mitigation.factors[site.name])
        parts = zip(y.split(self.weights.sizes, dim=-1), self.sites, strict=True)
        return torch.cat([mitigation.correct(part, kept, x, site) for part, site in parts], dim=-1)

    def _prepare_shift(self) -> None:
        weight = self.weights.floating()
        exact = torch.promote_types(weight.dtype, torch.float32)
        mitigation, site = self.scheme.mitigation, self.sites[0]
        probe = weight.new_zeros(1, weight.shape[1])
        # What a shift gives zeros is eta itself, unless eta depends on the token.
        eta = mitigation.restore(torch.zeros_like(probe), probe, site)[0]
        self.of_tokens = isinstance(mitigation, Shift)
        self.moved = weight.to(exact) @ (torch.ones_like(eta) if self.of_tokens else eta).to(exact)

    def _centred(self, x: Tensor) -> Tensor:
        return self.scheme.mitigation.prepare(x, self.sites[0]) if self.shifts else x

    def _shifted(self, y: Tensor, x: Tensor) -> Tensor:
        """Return y + W eta."""
        moved = self.scheme.mitigation.centre(x) * self.moved if self.of_tokens else self.moved
        return (y + moved).to(y.dtype)


def selection_of(scheme: Scheme, site: Site) -> Selection | None:
    """Return what a kernel is told to select at a site; None where it must be done in front of it."""
    factors = {Magnitude: None, Wina: "norms", Amber: "factors"}
    if type(scheme.scorer) not in factors or type(scheme.mitigation) not in LEAVE_INPUTS:
        return None
    pattern, layer = scheme.pattern, f"layer_{site.layer}"
    if type(pattern) is NOfM:
        selection = Selection(N_OF_M, pattern.n, pattern.m)
    elif type(pattern) is TopK:
        selection = Selection(TOP_K, pattern.kept(site.width))
    elif type(pattern) is TopKTable:
        selection = Selection(TOP_K, TopK(pattern.values[site.projection][layer]).kept(site.width))
    elif type(pattern) is Threshold:
        selection = Selection(THRESHOLD, level=pattern.values[site.projection][layer])
    else:
        return None
    if word := factors[type(scheme.scorer)]:
        return replace(selection, factor=getattr(scheme.scorer, word)[site.name])
    return selection


def warm(scheme: Scheme, site: Site) -> None:
    """Have scorer and mitigation read the weight now, for it may be gone when they need it."""
    x = site.weight.new_zeros(1, 1, site.width)
    scheme.scorer.score(x, site)
    if isinstance(scheme.mitigation, Smoothing):
        scheme.mitigation.prepare(x, site)
    if isinstance(scheme.mitigation, LowRank):
        scheme.mitigation.correct(x.new_zeros(1, 1, site.out_features), x, x, site)
