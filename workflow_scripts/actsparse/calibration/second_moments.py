"""Second moments of what a decoder layer's linear layers get: sums of x^T x over the calibration text."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from actsparse.models.layerwise import Stage
from actsparse.models.streaming import Once, watched


@torch.no_grad()
def second_moments(
    stage: Stage, modules: Iterable[nn.Linear], windows: int, dtype: torch.dtype = torch.float32
) -> dict[int, Tensor]:
    """Return X^T X, (in, in) in `dtype`, of each linear layer's inputs in all windows, by the layer's id.

    Layers that read one tensor, one after another, have one sum.
    """
    moments: dict[int, Tensor] = {}
    owners: dict[int, int] = {}

    def add(x: Tensor, module: int) -> int:
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        moments[module] = moments.get(module, 0) + rows.T @ rows
        return module

    once = Once(add)  # q, k and v share one input

    def gather(module: int, x: Tensor, output: Tensor) -> None:
        owners[module] = once(x, module)

    with watched({id(module): module for module in modules}.items(), gather):
        for window in range(windows):
            stage.run(window)
    return {module: moments[owner] for module, owner in owners.items()}
