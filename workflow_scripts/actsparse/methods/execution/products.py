"""Products of few rows, some of whose terms are skipped: in plain torch, and by the kernels.

Both engines have the same three functions. x is (..., in), of the model's dtype, few rows; the result is
(..., out), in x's dtype. `counts`, int64 (2), is what they add to: weight bytes read, and those of the dense
product.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from actsparse.kernels.modes import NONZERO
from actsparse.methods.execution.weights import Weights


@dataclass(frozen=True)
class Selection:
    """Which inputs of a row a kernel keeps, by itself: those whose score abs(x_i) * factor_i is large.

    Of mode THRESHOLD those that reach `level`, of N_OF_M the n best of each m consecutive ones, of TOP_K the
    n best of all; ties go to the earlier one. Of NONZERO all that are not zero. `factor` is float32 (in).
    """

    mode: int = NONZERO
    n: int = 0
    m: int = 0
    level: float = 0.0
    factor: Tensor | None = None


class Engine(Protocol):
    """What multiplies."""

    def dense(self, x: Tensor, weights: Weights, counts: Tensor) -> Tensor:
        """Return x W^T + b; weights (out, in)."""

    def skip_inputs(self, x: Tensor, weights: Weights, selection: Selection, counts: Tensor) -> Tensor:
        """Return the product with the selected inputs of each row alone, plus b; weights (in, out)."""

    def skip_outputs(self, x: Tensor, weights: Weights, keep: Tensor, counts: Tensor) -> Tensor:
        """Return x W^T + b where `keep`, bool (..., out), else 0; weights (out, in)."""

    def settle(self) -> None:
        """Add to `counts` what they do not hold yet."""


class PlainTorch:
    """The engine of any dtype: rows are multiplied one by one with the weights that are left of them."""

    name = "torch"
    selects = False  # of Selection it knows NONZERO alone

    def dense(self, x: Tensor, weights: Weights, counts: Tensor) -> Tensor:
        counts += weights.values.nbytes
        return linear(x, weights.floating(), weights.bias)

    def skip_inputs(self, x: Tensor, weights: Weights, selection: Selection, counts: Tensor) -> Tensor:
        rows, results = x.reshape(-1, x.shape[-1]), []
        for row in rows:
            index = row.nonzero().squeeze(1)
            product = row[index] @ _floating(weights.values.index_select(0, index), weights)
            results.append(product if weights.scale is None else product * weights.scale.to(x.dtype))
        _count(counts, weights, (rows != 0).any(0))
        result = torch.stack(results)
        result = result if weights.bias is None else result + weights.bias
        return result.reshape(*x.shape[:-1], -1)

    def skip_outputs(self, x: Tensor, weights: Weights, keep: Tensor, counts: Tensor) -> Tensor:
        rows, kept = x.reshape(-1, x.shape[-1]), keep.reshape(-1, keep.shape[-1])
        result = x.new_zeros(kept.shape)
        for i, (row, wanted) in enumerate(zip(rows, kept, strict=True)):
            index = wanted.nonzero().squeeze(1)
            product = _floating(weights.values.index_select(0, index), weights) @ row
            if weights.scale is not None:
                product = product * weights.scale[index].to(x.dtype)
            result[i, index] = product if weights.bias is None else product + weights.bias[index]
        _count(counts, weights, kept.any(0))
        return result.reshape(keep.shape)

    def settle(self) -> None:
        """All is counted as it is read."""


def _floating(values: Tensor, weights: Weights) -> Tensor:
    return values.to(weights.dtype)


def _count(counts: Tensor, weights: Weights, used: Tensor) -> None:
    """Count the weights of the inputs or outputs that any row has used, bool (in) or (out)."""
    counts[0] += used.count_nonzero() * (weights.values.nbytes // used.numel())
    counts[1] += weights.values.nbytes
