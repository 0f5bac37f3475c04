"""Execute a sparsification scheme: the numbers of `sparsify`, the products with zeros really skipped."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from actsparse.methods.execution.engines import pick_engine
from actsparse.methods.execution.feed_forward import PROJECTIONS, SkipsNeurons, check_outputs
from actsparse.methods.execution.inputs import SkipsInputs, check_inputs, selection_of, warm
from actsparse.methods.execution.modules import Part, Product, replace
from actsparse.methods.execution.products import Engine
from actsparse.methods.execution.refusal import CannotExecute
from actsparse.methods.execution.weights import Weights
from actsparse.methods.mitigations.learned_shift import LearnedShift
from actsparse.methods.mitigations.smoothing import Smoothing
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.sites import Site, find_sites

__all__ = ["CannotExecute", "Running", "execute"]

log = logging.getLogger(__name__)

# Linear layers that share one input, so that one product can do.
SHARED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


@dataclass
class Running:
    """A scheme being executed.

    `weight_bytes_read` counts the bytes of weights that products of few rows have read since the beginning,
    or since `reset`; prompts are not counted. `executed_sparsity` is the part of the weight bytes that was
    not read, over the linear layers whose weights the scheme can leave unread. `refused` says in one line
    why nothing is skipped, or is None. `engine` is what multiplies.
    """

    sites: list[Site]
    engine: Engine
    device: torch.device
    refused: str | None = None
    skipping: Tensor = field(init=False, repr=False)
    dense: Tensor = field(init=False, repr=False)

    def __post_init__(self):
        self.skipping, self.dense = torch.zeros(2, 2, dtype=torch.int64, device=self.device)

    @property
    def weight_bytes_read(self) -> int:
        """Bytes of all linear layers' weights that were read."""
        self.engine.settle()
        return int(self.skipping[0] + self.dense[0])

    @property
    def executed_sparsity(self) -> float:
        """Part of the weight bytes that was not read where the scheme skips; 0.0 before it has run."""
        self.engine.settle()
        read, whole = self.skipping.tolist()
        return 1 - read / whole if whole else 0.0

    def reset(self) -> None:
        """Count anew."""
        self.engine.settle()
        self.skipping.zero_()
        self.dense.zero_()


@contextmanager
def execute(
    model: nn.Module,
    scheme: Scheme | None,
    *,
    batch: int = 8,
    prefill: Literal["sparse", "dense"] = "sparse",
    weights: Literal["int8"] | None = None,
) -> Iterator[Running]:
    """Run `model` inside the block as `scheme` says, zeros skipped (None: dense, by the same kernels).

    Up to `batch` rows at once (sequences that each get one token) skip what none of them keeps. More are a
    prompt, which arithmetic bounds and not the bytes of weights: zeros are multiplied there as `sparsify`
    does it, or nothing is pruned with `prefill` "dense".

    The linear layers' weights are laid out anew, one product after the other, and put back after the block.
    With `weights` "int8" they are rounded to a scale for each output, with or without a scheme, and come back
    so rounded, for their floating-point values are not kept. Embeddings, and an output layer that shares
    their tensor, are as they were.

    Raises:
        CannotExecute: the scheme's zeros cannot be skipped here; the message says why. Nothing has changed.
        ValueError: the scheme does not fit one of its sites.
    """
    if prefill not in ("sparse", "dense"):
        raise ValueError(f"prefill: {prefill!r} is not allowed (allowed: sparse, dense)")
    if weights not in (None, "int8"):
        raise ValueError(f"weights: {weights!r} is not allowed (allowed: int8, or none)")
    devices, dtypes = {p.device for p in model.parameters()}, {p.dtype for p in model.parameters()}
    if len(devices) > 1 or not {device.type for device in devices} <= {"cpu", "cuda"}:
        names = ", ".join(sorted(map(str, devices)))
        raise CannotExecute(f"the model is on {names}; products are skipped on the CPU or on one GPU")
    (device,) = devices
    if weights == "int8" and device.type != "cpu":
        raise CannotExecute("weights in int8 have products on the CPU only")
    engine = pick_engine(device, dtypes)
    running = Running([], engine, device)
    with ExitStack() as stack:
        skips = scheme
        if scheme is not None and scheme.side == "weight":
            running.refused = "zeros of weights are stored and read like any weight: it runs as dense"
            running.sites = stack.enter_context(sparsify(model, scheme)).sites
            skips = None
        plan = _Plan(model, engine, running, batch, prefill == "sparse", weights == "int8", stack.callback)
        if skips is not None:
            running.sites = find_sites(model, skips.projections, skips.side, skips.layers)
            for site in running.sites:
                skips.pattern.check(site)
            check = (
                check_inputs if skips.side == "input" else lambda s: check_outputs(model, s, running.sites)
            )
            check(skips)
            (plan.skip_inputs if skips.side == "input" else plan.skip_neurons)(skips)
        plan.run_dense()
        yield running


@dataclass
class _Plan:
    """Builds the modules that stand in for linear layers, and puts them into the model."""

    model: nn.Module
    engine: Engine
    running: Running
    batch: int
    sparse_prefill: bool
    int8: bool
    when_done: Callable

    def __post_init__(self):
        self.done: set[int] = set()  # linear layers that have a stand-in
        self.every = find_sites(self.model, [".*"], "input")

    def skip_inputs(self, scheme: Scheme) -> None:
        for site in self.running.sites:
            if self.int8:
                self._round(site.module)
            warm(scheme, site)
        waiting = list(self.running.sites)
        while waiting:
            first, *waiting = waiting
            group = [first, *_fed_alike(first, waiting)]
            selections = [selection_of(scheme, site) if self.engine.selects else None for site in group]
            if not _one_mask(scheme, selections, first):
                group, selections = [first], selections[:1]
            waiting = [site for site in waiting if site not in group]
            weights = self._weights([site.module for site in group], input_major=True)
            product = SkipsInputs(
                weights, group, scheme, selections[0], self.engine, self.running.skipping, self.batch,
                self.sparse_prefill,
            )  # fmt: skip
            self._put(product, [site.module_name for site in group])

    def skip_neurons(self, scheme: Scheme) -> None:
        names = {id(module): name for name, module in self.model.named_modules()}
        for block in {id(site.block): site.block for site in self.running.sites}.values():
            sites = {site.projection: site for site in self.running.sites if site.block is block}
            if self.int8:
                for word in PROJECTIONS:
                    self._round(getattr(block, word))
            products = {}
            for word in PROJECTIONS:
                weights = self._weights([getattr(block, word)], input_major=word == "down_proj")
                products[word] = Product(weights, self.engine, self.running.skipping, self.batch)
            module = SkipsNeurons(
                block, sites, scheme, products, self.engine, self.running.skipping, self.sparse_prefill
            )
            name = names[id(block)]
            self.when_done(replace, self.model, name, replace(self.model, name, module))

    def run_dense(self) -> None:
        """Give all linear layers that are left, and the output layer, the engine's dense product."""
        sites = [site for site in self.every if id(site.module) not in self.done]
        while sites:
            first, *sites = sites
            group = [first, *_fed_alike(first, sites)]
            sites = [site for site in sites if site not in group]
            weights = self._weights([site.module for site in group], input_major=False)
            product = Product(weights, self.engine, self.running.dense, self.batch)
            self._put(product, [site.module_name for site in group])
        head = self.model.get_output_embeddings()
        if isinstance(head, nn.Linear):
            name = next(name for name, module in self.model.named_modules() if module is head)
            product = Product(self._weights([head], False), self.engine, self.running.dense, self.batch)
            self._put(product, [name])

    def _weights(self, layers: list[nn.Linear], input_major: bool) -> Weights:
        embedding = getattr(self.model.get_input_embeddings(), "weight", None)
        weights = Weights(layers, input_major, self.int8, keeps=layers[0].weight is embedding)
        self.done |= {id(layer) for layer in layers}
        self.when_done(weights.restore)
        return weights

    def _put(self, product: Product, names: list[str]) -> None:
        for index, name in enumerate(names):
            self.when_done(replace, self.model, name, replace(self.model, name, Part(product, index)))

    @staticmethod
    def _round(layer: nn.Linear) -> None:
        """Round a weight to what int8 will make of it, for those who rank by it."""
        Weights([layer], input_major=False, int8=True).restore()


def _fed_alike(first: Site, others: list[Site]) -> list[Site]:
    """Return those of `others` that get the very input of `first`."""
    words = next((words for words in SHARED if first.projection in words), ())
    return [site for site in others if site.block is first.block and site.projection in words]


def _one_mask(scheme: Scheme, selections: list, site: Site) -> bool:
    """Tell whether layers of one input keep the same part of it and are given the same values."""
    if isinstance(scheme.mitigation, LearnedShift | Smoothing):
        return False
    if not (scheme.scorer.reads_site or scheme.pattern.reads_site):
        return True
    first = selections[0]
    return first is not None and all(
        other is not None and other.factor is None and other == first for other in selections
    )
