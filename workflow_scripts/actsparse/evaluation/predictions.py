"""What the dense model predicts after each token of a text: its first tokens and the mass of the rest."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from actsparse.jobs.files import atomic_path
from actsparse.jobs.logs import progress

# Tokens whose log-probabilities are kept.
KEPT = 64
TOKENS_PER_CHUNK = 256


@torch.inference_mode()
def predict(model: nn.Module, windows: Tensor) -> dict[str, Tensor]:
    """Return what `model` predicts in each of `windows`, int (n, length), on the CPU.

    tokens: the KEPT most probable tokens, the first one first, int32 (n, length - 1, k), uint16 where the
        vocabulary has no more than 65,536; k is smaller where it has fewer than KEPT.
    logs: their log-probabilities in nats, and of all others together, float16 (n, length - 1, k + 1).
    following: the log-probability of the token that follows, float16 (n, length - 1).
    """
    found: dict[str, list[Tensor]] = {"tokens": [], "logs": [], "following": []}
    for window in progress(windows, "windows", total=len(windows)):
        parts = []
        for logits, target in chunks(model, window):
            tokens = logits.float().topk(min(KEPT, logits.shape[1])).indices
            narrow = torch.uint16 if logits.shape[1] <= 2**16 else torch.int32
            parts.append((tokens.to(narrow).cpu(), *(part.cpu() for part in shorten(logits, tokens, target))))
        for name, tensors in zip(found, zip(*parts, strict=True), strict=True):
            found[name].append(torch.cat(tensors))
    return {name: torch.stack(tensors) for name, tensors in found.items()}


def chunks(model: nn.Module, window: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (n, vocabulary) and the tokens that follow (n), for some of `window`, int (length)."""
    ids = window.long().to(model.device)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    yield from zip(logits.split(TOKENS_PER_CHUNK), ids[1:].split(TOKENS_PER_CHUNK), strict=True)


def shorten(logits: Tensor, tokens: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
    """Return `logs` and `following` as `predict` has them, of `logits` (n, vocabulary), at `tokens` (n, k).

    Both sides of a comparison are made by this function, so that equal logits become equal numbers.
    """
    logs = logits.float().log_softmax(-1)
    follows = logs.gather(1, following[:, None])[:, 0]
    kept = logs.gather(1, tokens)
    rest = logs.scatter_(1, tokens, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([kept, rest], 1).half(), follows.half()


def save_predictions(target: str | Path, predictions: dict[str, Tensor]) -> None:
    """Write what `predict` returned as safetensors, atomically."""
    from safetensors.torch import save_file

    with atomic_path(target) as temporary:
        save_file(predictions, temporary)
