"""What the library does fast, written out."""

import torch


def best(scores: torch.Tensor, k: int) -> torch.Tensor:
    """The k best of each row by a stable sort."""
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order[..., :k], True)
