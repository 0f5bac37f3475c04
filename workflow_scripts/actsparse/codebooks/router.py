"""Routers: which centroid a token will need, predicted from the input of its feed-forward network.

Known before the projection runs, the centroid says which neurons to compute at all; the oracle's assignment,
as published, needs their outputs first.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from actsparse.jobs.files import atomic_path

LOSSES = ("mixed", "coverage", "cross_entropy")
BATCH, LEARNING_RATE = 256, 3e-3


@dataclass(frozen=True)
class Router:
    """A linear map, or one of low rank, to a score for each centroid of each group.

    weights: float32 (G K, d), or (r, d) and (G K, r). bias: float32 (G K). groups: G.
    """

    weights: tuple[Tensor, ...]
    bias: Tensor
    groups: int

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.multiply_adds + self.bias.numel()

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for a token."""
        return sum(weight.numel() for weight in self.weights)

    def choose(self, hidden: Tensor) -> Tensor:
        """Return the predicted centroids, int64 (n, G), of inputs (n, d)."""
        scores = hidden.float()
        for weight in self.weights:
            scores = scores @ weight.to(scores.device).T
        return (scores + self.bias.to(scores.device)).view(len(hidden), self.groups, -1).argmax(2)


def covered_shares(magnitudes: Tensor, masks: Tensor) -> Tensor:
    """Return the share of each row's sum of magnitudes (n, D) that each mask, bool (K, D), keeps: (n, K)."""
    return (magnitudes @ masks.to(magnitudes.dtype).T) / magnitudes.sum(1, keepdim=True).clamp(min=1e-12)


def train_router(
    hidden: Tensor, covered: Tensor, rank: int | None, loss: str, epochs: int, seed: int
) -> Router:
    """Train a router on calibration tokens.

    Args:
        hidden: inputs, floating-point (n, d).
        covered: what each centroid would keep of each token's activation, float32 (n, G, K).
        rank: of the map; None for a full one.
        loss: `cross_entropy` with the centroid that keeps most; `coverage`: the expected lost activation if
            centroids were drawn from the softmax of the scores; `mixed`: the sum of both, of which the first
            finds the way and the second says which mistakes matter.
        epochs: passes over the tokens.
        seed: of the initial map and of the order of tokens.

    Raises:
        ValueError: unknown loss.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss: {loss!r} is unknown (allowed: {', '.join(LOSSES)})")
    generator = torch.Generator().manual_seed(seed)
    hidden = hidden.float()
    mean, deviation = hidden.mean(0), hidden.std(0).clamp(min=1e-6)
    inputs = (hidden - mean) / deviation
    count, groups, clusters = covered.shape
    sizes = [hidden.shape[1], *([] if rank is None else [rank]), groups * clusters]
    weights = [torch.randn(out, size, generator=generator) / size**0.5 for size, out in pairwise(sizes)]
    weights[-1].zero_()  # no centroid is preferred before there is a reason
    for weight in weights:
        weight.requires_grad_()
    bias = torch.zeros(groups * clusters, requires_grad=True)
    # Centroids differ by a few percent of a token's activation; as fractions of that they make a loss.
    gain = (covered - covered.mean(2, keepdim=True)) / covered.std(2, keepdim=True).clamp(min=1e-6)
    best = covered.argmax(2)
    steps = epochs * -(-count // BATCH)
    optimiser = torch.optim.AdamW([*weights, bias], lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(epochs):
        for some in torch.randperm(count, generator=generator).split(BATCH):
            scores = inputs[some]
            for weight in weights:
                scores = scores @ weight.T
            scores = (scores + bias).view(-1, groups, clusters)
            lost = scores.new_zeros(())
            if loss != "cross_entropy":
                lost = lost - (scores.softmax(2) * gain[some]).sum(2).mean()
            if loss != "coverage":
                lost = lost + nn.functional.cross_entropy(scores.flatten(0, 1), best[some].flatten())
            optimiser.zero_grad()
            lost.backward()
            optimiser.step()
            schedule.step()
    # The standardisation of the input becomes part of the first map and of the bias.
    first = weights[0].detach() / deviation
    rest = [weight.detach() for weight in weights[1:]]
    shift = first @ mean
    for weight in rest:
        shift = weight @ shift
    return Router((first, *rest), bias.detach() - shift, groups)


def save_routers(target: str | Path, routers: dict[str, Router], about: dict) -> None:
    """Write routers by site ("gate_proj.layer_3"), and facts about them (JSON values), atomically."""
    tensors = {}
    for site, router in routers.items():
        tensors[f"{site}.bias"] = router.bias
        for i, weight in enumerate(router.weights):
            tensors[f"{site}.weight_{i}"] = weight.contiguous()
    facts = {"groups": {site: router.groups for site, router in routers.items()}, "about": about}
    with atomic_path(target) as temporary:
        save_file(tensors, temporary, {"routers": json.dumps(facts, sort_keys=True)})


def load_routers(source: str | Path) -> tuple[dict[str, Router], dict]:
    """Read what `save_routers` wrote."""
    with safe_open(source, "pt") as opened:
        facts = json.loads(opened.metadata()["routers"])
        keys = set(opened.keys())
        routers = {}
        for site, groups in facts["groups"].items():
            names = [name for i in range(2) if (name := f"{site}.weight_{i}") in keys]
            weights = tuple(map(opened.get_tensor, names))
            routers[site] = Router(weights, opened.get_tensor(f"{site}.bias"), groups)
    return routers, facts["about"]
