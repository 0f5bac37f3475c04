"""Perplexity over non-overlapping windows."""

import math

import torch
from torch import Tensor, nn

from actsparse.jobs.logs import progress

TOKENS_PER_CHUNK = 256


def measure_perplexity(model: nn.Module, windows: Tensor) -> dict[str, float | int | list[float] | None]:
    """Return the perplexity of `model` on `windows`, int (n, length), and what it was measured on.

    Perplexity is exp of the mean negative log-likelihood of the n * (length - 1) predicted tokens, with
    logits in float32. `stderr` is the delta-method standard error, exp(mean) times the standard error of the
    windows' means; None for one window. A value that is not finite is returned as None.
    """
    means = [window_nll(model, window) for window in progress(windows, "windows", total=len(windows))]
    nll = torch.tensor(means, dtype=torch.float64)
    value = math.exp(min(nll.mean().item(), 700.0)) if nll.isfinite().all() else None
    spread = nll.std().item() / math.sqrt(len(means)) if len(means) > 1 else None
    return {
        "value": value,
        "stderr": value * spread if value is not None and spread is not None else None,
        "windows": len(means),
        "sequence_length": windows.shape[1],
        "tokens": len(means) * (windows.shape[1] - 1),
        "nll_per_window": [mean if math.isfinite(mean) else None for mean in means],
    }


def bits_per_byte(nll: list[float | None], tokens: int, sizes: list[int]) -> dict[str, float | None]:
    """Return {"value", "stderr"} of the bits that a byte of text costs.

    `nll` are the windows' mean negative log-likelihoods of their `tokens` predicted tokens, in nats, `sizes`
    the bytes that these stand for. The value is the sum of nats over the sum of bytes times log 2; its error
    is that of a ratio of means over windows, by the delta method, None for one window. Both are None where
    a value is not finite.
    """
    if None in nll or not sum(sizes):
        return {"value": None, "stderr": None}
    bits = torch.tensor(nll, dtype=torch.float64) * tokens / math.log(2)
    size = torch.tensor(sizes, dtype=torch.float64)
    value = bits.sum() / size.sum()
    error = (bits - value * size).std() / size.mean() / math.sqrt(len(nll)) if len(nll) > 1 else None
    return {"value": value.item(), "stderr": None if error is None else error.item()}


@torch.inference_mode()
def window_nll(model: nn.Module, window: Tensor) -> float:
    """Return the mean negative log-likelihood of the tokens of `window`, int (length), after its first."""
    ids = window.long().to(model.device)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    total = torch.zeros((), dtype=torch.float64, device=logits.device)
    # float32 copies of all logits at once would double the largest tensor of the job.
    for part, target in zip(logits.split(TOKENS_PER_CHUNK), ids[1:].split(TOKENS_PER_CHUNK), strict=True):
        # Not cross_entropy, which errs by 1e-5 in float32 on some processors.
        part = part.float()
        total += (part.logsumexp(-1).double() - part.gather(1, target[:, None])[:, 0].double()).sum()
    return total.item() / (len(ids) - 1)
