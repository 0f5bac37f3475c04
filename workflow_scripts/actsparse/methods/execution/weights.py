"""Weights of linear layers laid out anew: several as one, input-major or not, floating-point or int8."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LARGEST_INT8 = 127


class Weights:
    """The weights of linear layers that share an input, as one tensor.

    `values` is (in, out) if `input_major`, so that the weights of one input lie together, else (out, in); out
    is the sum over the layers. In int8 they are values * scale, `scale` float32 (out), the largest magnitude
    of each output being 127. `bias` is (out), of the model's dtype, or None where no layer has one.

    The layers' own `weight` becomes a view of `values`, so that memory is not doubled and whoever reads a
    weight still can; in int8 there is nothing to view, and it is empty. `restore` gives every layer a tensor
    of its own again. What int8 has rounded stays rounded, unless it `keeps` the layers' own weights, which
    somebody else uses too.
    """

    def __init__(self, layers: Sequence[nn.Linear], input_major: bool, int8: bool, keeps: bool = False):
        self.layers, self.input_major, self.keeps = list(layers), input_major, keeps
        self.dtype = layers[0].weight.dtype
        self.sizes = [layer.out_features for layer in layers]
        self.scale: Tensor | None = None
        self.bias = _joined_bias(layers)
        # What is alone, whole and in order need not move (an output layer may be the embedding's tensor).
        self.moves = int8 or input_major or len(layers) > 1
        if int8:
            self._quantise()
        elif self.moves:
            self._lay_out()
        else:
            self.values = layers[0].weight.data

    @property
    def slices(self) -> list[slice]:
        """Where each layer's outputs are."""
        ends = torch.tensor(self.sizes).cumsum(0).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]

    def floating(self, part: slice = slice(None)) -> Tensor:
        """Return the weight of some outputs, (out, in), in the model's dtype; a view unless int8."""
        values = self.values[:, part].t() if self.input_major else self.values[part]
        if self.scale is None:
            return values
        return (values.float() * self.scale[part, None]).to(self.dtype)

    def restore(self) -> None:
        """Give the layers their weights back, (out, in), contiguous."""
        if self.moves and not self.keeps:
            for layer, part in zip(self.layers, self.slices, strict=True):
                layer.weight.data = self.floating(part).clone(memory_format=torch.contiguous_format)

    def _lay_out(self) -> None:
        first = self.layers[0].weight
        shape = (sum(self.sizes), first.shape[1])
        self.values = first.new_empty(shape[::-1] if self.input_major else shape)
        for layer, part in zip(self.layers, self.slices, strict=True):
            view = self.values[:, part].t() if self.input_major else self.values[part]
            view.copy_(layer.weight.data)
            layer.weight.data = view

    def _quantise(self) -> None:
        parts, scales = [], []
        for layer in self.layers:
            values, scale = to_int8(layer.weight.data)
            parts.append(values)
            scales.append(scale)
            if not self.keeps:
                layer.weight.data = layer.weight.data.new_empty(0)
        values = torch.cat(parts)
        self.values = values.t().contiguous() if self.input_major else values
        self.scale = torch.cat(scales)


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight (out, in) as int8 of its shape and float32 scales (out): weight ~ values * scale."""
    scale = weight.abs().amax(dim=1).float() / LARGEST_INT8
    scale = torch.where(scale > 0, scale, 1.0)
    rounded = (weight.float() / scale[:, None]).round_().clamp_(-LARGEST_INT8, LARGEST_INT8)
    return rounded.to(torch.int8), scale


def _joined_bias(layers: Sequence[nn.Linear]) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat(
        [layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
    )
