"""Which engine multiplies."""

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils._triton import has_triton

from actsparse.kernels.cpu.build import load_kernels
from actsparse.kernels.dtypes import KERNEL_DTYPES
from actsparse.methods.execution.products import Engine, PlainTorch, Selection
from actsparse.methods.execution.weights import Weights


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

    def settle(self) -> None:
        """All is counted as it is read."""


class TritonKernels:
    """Triton's kernels on a GPU; what is dense is the vendor's product.

    To count each dense product on the device would cost a launch; `settle` counts all since the last time.
    """

    name = "gpu kernels"
    selects = True

    def __init__(self):
        from actsparse.kernels.gpu import products  # here, for most machines have no Triton

        self._products = products
        self._owed: list[tuple[Tensor, int]] = []

    def dense(self, x: Tensor, weights: Weights, counts: Tensor) -> Tensor:
        self._owed.append((counts, weights.values.nbytes))
        return linear(x, weights.values, weights.bias)

    def skip_inputs(self, x: Tensor, weights: Weights, selection: Selection, counts: Tensor) -> Tensor:
        return self._products.skip_inputs(
            x, weights.values, weights.scale, weights.bias, selection.mode, selection.n, selection.m,
            selection.level, selection.factor, counts,
        )  # fmt: skip

    def skip_outputs(self, x: Tensor, weights: Weights, keep: Tensor, counts: Tensor) -> Tensor:
        return self._products.skip_outputs(x, weights.values, weights.scale, weights.bias, keep, counts)

    def settle(self) -> None:
        totals: dict[int, tuple[Tensor, int]] = {}
        for counts, count in self._owed:
            totals[id(counts)] = (counts, totals.get(id(counts), (counts, 0))[1] + count)
        self._owed.clear()
        for counts, total in totals.values():
            counts += total


def pick_engine(device: torch.device, dtypes: set[torch.dtype]) -> Engine:
    """Return the device's kernels where they can be had and know the model's one dtype, else plain torch."""
    (dtype, *others) = dtypes
    if others or dtype not in KERNEL_DTYPES.get(device.type, ()):
        return PlainTorch()
    if device.type == "cuda":
        return TritonKernels() if has_triton() else PlainTorch()
    return Kernels() if load_kernels() is None else PlainTorch()
