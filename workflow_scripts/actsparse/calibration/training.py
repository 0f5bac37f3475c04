"""Train a mitigation's parameters layer by layer, against the dense outputs (arXiv 2509.22166)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from actsparse.methods.per_site import PerSite
from actsparse.methods.sparsify import Scheme
from actsparse.models.layerwise import Stage, walk_layers
from actsparse.models.sites import Site, find_sites
from actsparse.models.streaming import watched


@dataclass(frozen=True)
class Recipe:
    """The paper's recipe: AdamW at 1e-4 with betas 0.9 and 0.95, 3 % warm-up, one epoch.

    After the warm-up the rate falls linearly to zero, as in the artifact. One step is one window. Every
    `validate_every` steps the error on the validation windows is measured; training of a site ends after
    `patience` measurements without improvement, and the best parameters count.
    """

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    warm_up: float = 0.03
    epochs: int = 1
    validate_every: int = 16
    patience: int = 3


@dataclass
class Progress:
    """What training did to a site: relative squared error on validation windows before and after; steps."""

    site: str
    before: float
    after: float
    steps: int


@dataclass
class Trained:
    """Parameters by site, and how each site's training went."""

    parameters: PerSite = field(default_factory=dict)
    progress: list[Progress] = field(default_factory=list)


def train(
    model: nn.Module, scheme: Scheme, windows: Tensor, validation: Tensor, recipe: Recipe | None = None
) -> Trained:
    """Train the parameters of `scheme.mitigation` for every site of the scheme; the model stays as it is.

    `windows` and `validation`, int (n, length), are read by the dense model; each site learns to give the
    dense output from its pruned dense input, all sites of a decoder layer in the same pass.
    """
    recipe = recipe or Recipe()
    sites: dict[int, list[Site]] = {}
    for site in find_sites(model, scheme.projections, "input", scheme.layers):
        scheme.pattern.check(site)
        sites.setdefault(site.layer, []).append(site)
    trained = Trained()
    text = torch.cat([validation, windows])
    for stage in walk_layers(model, text):
        here = [_Learner(site, scheme, recipe, len(windows)) for site in sites.get(stage.index, [])]
        if here:
            _train_layer(stage, here, range(len(validation)), range(len(validation), len(text)), recipe)
        for learner in here:
            trained.parameters[learner.site.module_name] = learner.best
            trained.progress.append(learner.progress())
        if stage.index == max(sites):
            break
    return trained


def _train_layer(
    stage: Stage, learners: list["_Learner"], validation: range, windows: range, recipe: Recipe
) -> None:
    _validate(stage, learners, validation)
    step = 0
    for _ in range(recipe.epochs):
        for window in windows:
            active = [learner for learner in learners if not learner.finished]
            if not active:
                return
            _visit(stage, {learner: learner.step for learner in active}, window)
            step += 1
            if step % recipe.validate_every == 0:
                _validate(stage, active, validation)
    if step % recipe.validate_every:
        _validate(stage, [learner for learner in learners if not learner.finished], validation)


def _validate(stage: Stage, learners: list["_Learner"], validation: range) -> None:
    for window in validation:
        _visit(stage, {learner: learner.measure for learner in learners}, window)
    for learner in learners:
        learner.judge()


def _visit(stage: Stage, actions: dict["_Learner", Callable[[Tensor, Tensor], None]], window: int) -> None:
    """Run the dense layer on a window and give each learner the input and the output of its site."""
    places = ((action, learner.site.module) for learner, action in actions.items())
    with watched(places, lambda action, x, output: action(x, output)):
        stage.run(window)


class _Learner:
    """The parameters of one site on their way."""

    def __init__(self, site: Site, scheme: Scheme, recipe: Recipe, windows: int):
        self.site, self.scheme, self.recipe = site, scheme, recipe
        device = site.module.weight.device
        initial = type(scheme.mitigation).initial(site)
        self.values = {what: nn.Parameter(value.to(device)) for what, value in initial.items()}
        table = {site.module_name: self.values}
        self.mitigation = replace(scheme.mitigation, parameters=table)
        self.optimiser = torch.optim.AdamW(
            self.values.values(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
        )
        steps = windows * recipe.epochs
        warm_up = max(1, round(recipe.warm_up * steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up))
        )
        self.steps = self.stale = 0
        self.errors: list[float] = []
        self.best: dict[str, Tensor] = {}
        self.sums = [0.0, 0.0]

    @property
    def finished(self) -> bool:
        return self.stale >= self.recipe.patience

    @torch.enable_grad()
    def step(self, x: Tensor, dense: Tensor) -> None:
        """Take one step of the optimiser on a window's inputs (1, length, in) and outputs."""
        error, size = self.error(x.detach(), dense.detach())
        (error / size).backward()
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad()
        self.steps += 1

    @torch.no_grad()
    def measure(self, x: Tensor, dense: Tensor) -> None:
        """Add a validation window to the error."""
        error, size = self.error(x, dense)
        self.sums[0] += float(error)
        self.sums[1] += float(size)

    def judge(self) -> None:
        """Close a validation: keep the parameters if they are the best so far."""
        error, self.sums = self.sums[0] / max(self.sums[1], 1e-30), [0.0, 0.0]
        if not self.errors or error < min(self.errors):
            self.best = {what: value.detach().cpu().clone() for what, value in self.values.items()}
            self.stale = 0
        else:
            self.stale += 1
        self.errors.append(error)

    def error(self, x: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squared error of the output, float32, and the squared size of the dense one."""
        module, site = self.site.module, self.site
        prepared = self.mitigation.prepare(x, site)
        # What survives is decided outside the gradient, where the fast kernels may be used.
        with torch.no_grad():
            mask = self.mask(prepared.detach())
        got = self.mitigation.restore(torch.where(mask, prepared, 0), x, site)
        # As published, the pruned layer has no bias; the dense one that it learns from keeps its own.
        output = linear(got, module.weight, None if self.scheme.drops_bias else module.bias)
        if self.mitigation.corrects_output:
            output = self.mitigation.correct(output, got, x, site)
        return (output.float() - dense.float()).square().sum(), dense.float().square().sum()

    def mask(self, prepared: Tensor) -> Tensor:
        """Return which elements survive; exact zeros among them do not matter."""
        scores = self.scheme.scorer.score(prepared, self.site)
        fast = getattr(self.scheme.pattern, "prune", None)
        done = fast(prepared, scores) if fast else None
        return self.scheme.pattern.mask(scores, self.site) if done is None else done[0] != 0

    def progress(self) -> Progress:
        """Return what training did."""
        return Progress(self.site.name, self.errors[0], min(self.errors), self.steps)
