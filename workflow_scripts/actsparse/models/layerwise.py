"""Walk through a decoder layer by layer with calibration text, holding the hidden states of one layer."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from actsparse.jobs.logs import progress
from actsparse.models.sites import decoder_layers


@dataclass
class Stage:
    """A decoder layer and its inputs; `run(window)` computes its output for one window, (1, length, d)."""

    index: int
    layer: nn.Module
    run: Callable[[int], Tensor]


class _Stop(Exception):
    pass


@torch.no_grad()
def walk_layers(model: nn.Module, windows: Tensor) -> Iterator[Stage]:
    """Yield the decoder's layers in order; each gets what the earlier ones make of `windows` (n, length).

    A layer is run again after the caller is done with it, so later layers see its changed weights. Hidden
    states are kept on the CPU in the model's dtype: n * length * d elements.
    """
    layers = decoder_layers(model)
    settings = _settings(model, layers, windows[:1])
    hidden = _embeddings(model, layers[0], windows)
    for index, layer in enumerate(progress(layers, "decoder layers")):

        def run(window: int, layer=layer, index=index) -> Tensor:
            device = next(layer.parameters()).device
            output = layer(hidden[window].to(device), **settings[index])
            return output[0] if isinstance(output, tuple) else output

        yield Stage(index, layer, run)
        for window in range(len(hidden)):
            hidden[window] = run(window).cpu()


def _settings(model: nn.Module, layers: nn.ModuleList, window: Tensor) -> list[dict]:
    """Return the keyword arguments (masks, positions) that each layer gets; the same for all windows."""
    settings: list[dict] = [{} for _ in layers]
    with ExitStack() as stack:
        for index, layer in enumerate(layers):

            def record(module, args, kwargs, index=index):
                settings[index] = {key: value for key, value in kwargs.items() if key != "hidden_states"}

            stack.callback(layer.register_forward_pre_hook(record, with_kwargs=True).remove)
        _run(model, window)
    return settings


def _embeddings(model: nn.Module, first: nn.Module, windows: Tensor) -> list[Tensor]:
    """Return what the first layer gets, window by window."""
    hidden: list[Tensor] = []

    def record(module, args, kwargs):
        hidden.append((args[0] if args else kwargs["hidden_states"]).cpu())
        raise _Stop

    handle = first.register_forward_pre_hook(record, with_kwargs=True)
    try:
        for window in windows:
            try:
                _run(model, window[None])
            except _Stop:
                continue
    finally:
        handle.remove()
    return hidden


def _run(model: nn.Module, window: Tensor) -> None:
    model.get_decoder()(input_ids=window.long().to(model.device), use_cache=False)
