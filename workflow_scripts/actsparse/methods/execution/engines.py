"""Which engine multiplies."""

import torch
from torch import Tensor

from actsparse.kernels.cpu.build import load_kernels
from actsparse.methods.execution.products import Engine, PlainTorch, Selection
from actsparse.methods.execution.weights import Weights

KERNEL_DTYPES = (torch.float32, torch.bfloat16)


class Kernels:
    """The C++ kernels, as operators of torch, which torch.compile keeps in its graph."""

    name = "cpu kernels"
    selects = True

    def __init__(self):
        operators = torch.ops.actsparse
        self._dense = operators.dense.default
        self._skip_inputs, self._skip_outputs = operators.skip_inputs.default, operators.skip_outputs.default

    def dense(self, x: Tensor, weights: Weights, counts: Tensor) -> Tensor:
        return self._dense(x, weights.values, weights.scale, weights.bias, counts)

    def skip_inputs(self, x: Tensor, weights: Weights, selection: Selection, counts: Tensor) -> Tensor:
        return self._skip_inputs(
            x, weights.values, weights.scale, weights.bias, selection.mode, selection.n, selection.m,
            selection.level, selection.factor, counts,
        )  # fmt: skip

    def skip_outputs(self, x: Tensor, weights: Weights, keep: Tensor, counts: Tensor) -> Tensor:
        return self._skip_outputs(x, weights.values, weights.scale, weights.bias, keep, counts)


def pick_engine(dtypes: set[torch.dtype]) -> Engine:
    """Return the kernels where they can be built and know the model's one dtype, else plain torch."""
    (dtype, *others) = dtypes
    if others or dtype not in KERNEL_DTYPES or load_kernels():
        return PlainTorch()
    return Kernels()
