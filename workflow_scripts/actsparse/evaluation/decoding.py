"""How long a token takes, dense and under a scheme, measured in turns."""

import gc
from statistics import quantiles
from typing import Any

from torch import Tensor, nn

from actsparse.jobs.logs import progress
from actsparse.methods.execute import CannotExecute, Running, execute
from actsparse.methods.sparsify import Scheme
from actsparse.models.decoding import make_decoder, time_tokens


def measure_decoding(
    model: nn.Module,
    scheme: Scheme | None,
    windows: Tensor,
    *,
    prompt_tokens: int,
    new_tokens: int,
    batch: int,
    repeats: int,
    weights: str,
) -> dict[str, Any]:
    """Decode the beginning of `windows`, int (n, length), dense and under a scheme, `repeats` times each.

    Every sequence is fed the text's own tokens, so that all schemes are measured on the same. Returns
    `milliseconds` and `dense_milliseconds` of a token (first quartile, median, third), `executed_sparsity`
    (weight bytes that were not read, where the scheme can leave any), `weight_bytes_per_token`, the `engine`
    and `decoder`, and `refused`: why the scheme's zeros are not skipped, or None. What was refused has no
    times (null).
    """
    text = windows[:batch, : prompt_tokens + new_tokens].long().to(model.device)
    stored = None if weights == "as_loaded" else weights
    found: dict[str, list[float]] = {"dense": [], "sparse": []}
    running, decoder, refused = None, "", None
    for _ in progress(range(repeats), "turns", total=repeats):
        for name, chosen in {"dense": None, "sparse": scheme}.items():
            if refused or (name == "sparse" and scheme is None):
                continue
            try:
                with execute(model, chosen, batch=batch, weights=stored) as running:
                    made = make_decoder(model, text.shape[1], len(text))
                    running.reset()
                    found[name] += time_tokens(made, text, prompt_tokens).milliseconds
                    decoder = made.name
                    counts = _counts(running, new_tokens)
            except CannotExecute as error:
                refused = str(error)
            gc.collect()
    times = found["dense"] if scheme is None else found["sparse"]
    return {
        "milliseconds": _quartiles(times),
        "dense_milliseconds": _quartiles(found["dense"]),
        "executed_sparsity": None if refused else counts["executed_sparsity"],
        "weight_bytes_per_token": None if refused else counts["weight_bytes_per_token"],
        "engine": running.engine.name if running else None,
        "decoder": decoder,
        "refused": refused or (running.refused if running else None),
    }


def _counts(running: Running, tokens: int) -> dict[str, float]:
    return {
        "executed_sparsity": running.executed_sparsity,
        "weight_bytes_per_token": running.weight_bytes_read / tokens,
    }


def _quartiles(milliseconds: list[float]) -> list[float | None]:
    if len(milliseconds) < 2:
        return [milliseconds[0] if milliseconds else None] * 3
    return quantiles(milliseconds, n=4, method="inclusive")
