"""What a router is measured against: predicting each neuron by itself, at the same cost."""

import torch
from torch import Tensor, nn

from actsparse.codebooks.router import BATCH

LEARNING_RATE = 1e-2


def equal_cost_rank(parameters: int, inputs: int, outputs: int) -> int:
    """Return the rank at which two factors, (r, inputs) and (outputs, r), have that many parameters."""
    return max(1, round(parameters / (inputs + outputs)))


def train_low_rank(
    hidden: Tensor, active: Tensor, rank: int, epochs: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Train DejaVu's predictor (arXiv 2310.17157): a linear map of low rank to a logit for each neuron.

    hidden: floating-point (n, d). active: bool (n, D). Returns the factors, float32 (r, d + 1), for inputs
    with a 1 behind them, and (D, r).
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = _with_one(hidden)
    scale = inputs.std(0).clamp(min=1e-6)
    scale[-1] = 1
    inputs = inputs / scale
    first = (
        torch.randn(rank, inputs.shape[1], generator=generator) / inputs.shape[1] ** 0.5
    ).requires_grad_()
    second = (torch.randn(active.shape[1], rank, generator=generator) / rank**0.5).requires_grad_()
    optimiser = torch.optim.AdamW([first, second], lr=LEARNING_RATE, weight_decay=1e-2)
    steps = epochs * -(-len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(epochs):
        for some in torch.randperm(len(inputs), generator=generator).split(BATCH):
            logits = inputs[some] @ first.T @ second.T
            loss = nn.functional.binary_cross_entropy_with_logits(logits, active[some].float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return first.detach() / scale, second.detach()


def low_rank_masks(hidden: Tensor, factors: tuple[Tensor, Tensor], ones: int) -> Tensor:
    """Return the `ones` neurons with the largest logits of each token: bool (n, D)."""
    return _largest(_with_one(hidden) @ factors[0].T @ factors[1].T, ones)


def svd_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the truncated SVD of a projection's weight (D, d): float32 (rank, d) and (D, rank)."""
    u, s, v = torch.linalg.svd(weight.float(), full_matrices=False)
    return v[:rank], u[:, :rank] * s[:rank]


def svd_masks(hidden: Tensor, factors: tuple[Tensor, Tensor], ones: int) -> Tensor:
    """Return the `ones` largest outputs of a projection that is cut to its `svd_factors`: bool (n, D)."""
    return _largest((hidden.float() @ factors[0].T @ factors[1].T).abs(), ones)


def _with_one(hidden: Tensor) -> Tensor:
    return nn.functional.pad(hidden.float(), (0, 1), value=1.0)


def _largest(scores: Tensor, ones: int) -> Tensor:
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.topk(ones, dim=1).indices, True)
