"""How far a model's predictions on a text are from the dense model's."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from actsparse.evaluation.predictions import TOKENS_PER_CHUNK, chunks, shorten
from actsparse.jobs.logs import progress
from actsparse.jobs.tensor_files import opened

# A probability that is less than a tenth of the dense model's has fallen.
FALL = math.log(10)
MEASURES = ("kl", "top1_agreement", "tenfold_falls", "logit_ms")


def measure_distance(model: nn.Module, windows: Tensor, predictions: str | Path) -> dict[str, Any]:
    """Return the distances of `model` to the dense one on `windows`, int (n, length).

    `predictions` is a file of what the dense model predicts there, see `predict`; a window of it is read at a
    time. Means over the n * (length - 1) predicted tokens:

    kl: KL(dense || sparse) in nats over k + 1 outcomes, the k tokens that are kept of the dense model and all
        others as one. Merging outcomes never raises a KL (data processing inequality): it is a lower bound of
        that over the vocabulary, but for the rounding of log-probabilities to float16. Both sides are scaled
        to a sum of 1 after it, so that it is never negative, and 0 for equal predictions.
    top1_agreement: share of tokens where the dense model's first token has the highest logit, ties included.
    tenfold_falls: share of tokens where the probability of the token that follows is less than a tenth of
        the dense model's.
    logit_rms: root of the mean, over tokens and their k kept ones, of the squared difference of
        log-probabilities, less its mean over the k. As a shift of all logits changes no prediction, this is
        the RMS difference of logits centred over the kept tokens.

    Each is {"value", "stderr", "per_window"}: the error is that of the mean of the windows' means, for the
    root by the delta method; None for one window. What is not finite is None. Raises ValueError when the
    file has fewer windows.
    """
    with opened(predictions) as stored:
        parts = [stored.get_slice(name) for name in ("tokens", "logs", "following")]
        if parts[0].get_shape()[0] < len(windows):
            raise ValueError(f"{predictions}: {parts[0].get_shape()[0]} windows, needs {len(windows)}")
        means = [
            window_distance(model, window, *(part[i] for part in parts))
            for i, window in enumerate(progress(windows, "windows", total=len(windows)))
        ]
    columns = dict(zip(MEASURES, torch.stack(means).T, strict=True))
    squares = columns.pop("logit_ms")
    root = summary(squares)
    value = None if root["value"] is None else math.sqrt(root["value"])
    error = root["stderr"] / (2 * value) if value and root["stderr"] is not None else root["stderr"]
    return {
        **{name: summary(values) for name, values in columns.items()},
        "logit_rms": {"value": value, "stderr": error, "per_window": finite(squares.sqrt())},
        "windows": len(windows),
        "sequence_length": windows.shape[1],
        "tokens": len(windows) * (windows.shape[1] - 1),
    }


@torch.inference_mode()
def window_distance(
    model: nn.Module, window: Tensor, tokens: Tensor, logs: Tensor, following: Tensor
) -> Tensor:
    """Return the means of MEASURES over a window, int (length), float64 (4).

    The other tensors are those of the window that `predict` returned.
    """
    total = torch.zeros(len(MEASURES), dtype=torch.float64)
    dense = zip(*(part.split(TOKENS_PER_CHUNK) for part in (tokens, logs, following)), strict=True)
    for (logits, target), (kept, dense_logs, dense_follows) in zip(chunks(model, window), dense, strict=True):
        kept = kept.long().to(logits.device)
        gap = (logits.gather(1, kept[:, :1])[:, 0] - logits.max(-1).values).cpu()
        sparse_logs, sparse_follows = (part.cpu() for part in shorten(logits, kept, target))
        fallen = dense_follows.double() - sparse_follows.double()
        measures = (
            divergence(dense_logs, sparse_logs),
            share(gap == 0, gap),
            share(fallen > FALL, fallen),
            (dense_logs[:, :-1].double() - sparse_logs[:, :-1].double()).var(-1, correction=0),
        )
        total += torch.stack([measure.sum() for measure in measures])
    return total / len(following)


def divergence(dense: Tensor, sparse: Tensor) -> Tensor:
    """Return KL(dense || sparse) in nats, float64 (n).

    Both are log-probabilities (n, outcomes) and are scaled to a sum of 1.
    """
    p, q = (logs.double().log_softmax(-1) for logs in (dense, sparse))
    # What the dense model gives no probability adds nothing, whatever the other gives it.
    return torch.where(p == -torch.inf, 0.0, p.exp() * (p - q)).sum(-1)


def share(holds: Tensor, of: Tensor) -> Tensor:
    """Return 1 where it `holds`, else 0, float64; NaN where what it is told `of` is NaN."""
    return torch.where(of.isnan(), torch.nan, holds.double())


def summary(means: Tensor) -> dict[str, Any]:
    """Return {"value", "stderr", "per_window"} of the means of windows, float64 (n)."""
    whole = bool(means.isfinite().all())
    spread = means.std().item() / math.sqrt(len(means)) if len(means) > 1 and whole else None
    value = means.mean().item() if whole else None
    return {"value": value, "stderr": spread, "per_window": finite(means)}


def finite(values: Tensor) -> list[float | None]:
    """Return numbers as JSON has them: null where they are not finite."""
    return [value if math.isfinite(value) else None for value in values.tolist()]
