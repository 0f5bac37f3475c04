"""Text passes through a model while hooks watch what its layers get and make of it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
Places = Iterable[tuple[T, nn.Module]]


@contextmanager
def watched(places: Places, see: Callable[[T, Tensor, Tensor], None]) -> Iterator[None]:
    """Call `see(place, x, y)` whenever a place's module makes y of its first input x, inside the block.

    `places` are pairs of what stands for a place, such as a site, and its module. Hooks are set in that order
    and always removed.
    """

    def hook(place: T):
        def look(module, args, output):
            see(place, args[0], output)

        return look

    with ExitStack() as stack:
        for place, module in places:
            stack.callback(module.register_forward_hook(hook(place)).remove)
        yield


class Once:
    """A function of a tensor that is called once where several layers read the same one, one after another.

    It takes what `function` does; of the same tensor, the first call's arguments and result count.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._last: tuple[Tensor, T] | None = None

    def __call__(self, x: Tensor, *arguments) -> T:
        if self._last is None or self._last[0] is not x:
            self._last = None  # not both results at once
            self._last = x, self._function(x, *arguments)
        return self._last[1]


@torch.inference_mode()
def stream(model: nn.Module, windows: Iterable[Tensor]) -> None:
    """Pass windows, each int (length), through the model's decoder one by one; no logits are computed."""
    for window in windows:
        model.get_decoder()(input_ids=window[None].long().to(model.device), use_cache=False)
