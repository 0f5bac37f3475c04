"""Decoding one token at a time, and how long a token takes.

    decoder = make_decoder(model, length=128)
    logits = decoder.prompt(ids)      # (batch, tokens) -> (batch, vocabulary), after the last token
    logits = decoder.step(ids)        # (batch) -> (batch, vocabulary)

Whatever modules stand in for the model's linear layers are called, as `execute` puts them there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles
from time import perf_counter
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._triton import has_triton
from transformers import DynamicCache, StaticCache
from transformers.activations import SiLUActivation

from actsparse.kernels.cpu.build import load_kernels
from actsparse.kernels.dtypes import KERNEL_DTYPES
from actsparse.models.sites import decoder_layers

# Norm, rotation and attention of these are what the kernels compute.
LEAN = ("llama", "mistral", "qwen2")


class Decoder(Protocol):
    """Holds the cache of a batch of sequences. `name` tells what runs the model."""

    name: str

    def prompt(self, ids: Tensor) -> Tensor:
        """Begin anew with `ids`, int64 (batch, tokens); return the last logits, (batch, vocabulary)."""

    def step(self, ids: Tensor) -> Tensor:
        """Add one token to each sequence, int64 (batch); return its logits, (batch, vocabulary)."""


class TransformersDecoder:
    """transformers' own forward pass, of any architecture; maybe compiled, over a static cache."""

    def __init__(self, model: nn.Module, length: int, compiled: bool = False):
        self.model, self.length, self.compiled = model, length, compiled
        self.name = "transformers, compiled" if compiled else "transformers"
        # Launches cost more than products do on a GPU; CUDA graphs, which this mode makes, save them.
        mode = "reduce-overhead" if model.device.type == "cuda" else "default"
        self.forward = torch.compile(self._forward, mode=mode) if compiled else self._forward
        self.cache = None

    def _forward(self, ids: Tensor, position: Tensor) -> Tensor:
        return self.model(input_ids=ids, past_key_values=self.cache, position_ids=position[None]).logits

    @torch.inference_mode()
    def prompt(self, ids: Tensor) -> Tensor:
        config = self.model.config.get_text_config()
        if self.compiled and self.cache is not None:
            self.cache.reset()  # another cache would be compiled for anew
        elif self.compiled:
            self.cache = StaticCache(config=config, max_cache_len=self.length)
        else:
            self.cache = DynamicCache(config=config)
        self.position = ids.shape[1]
        return self._forward(ids, torch.arange(self.position, device=ids.device))[:, -1]

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        logits = self.forward(ids[:, None], torch.tensor([self.position], device=ids.device))[:, -1]
        self.position += 1
        return logits


class LeanDecoder:
    """A Llama's forward pass for one token in as few calls as can be: they cost what products do.

    On a GPU the calls of a step are recorded once, as a CUDA graph, and replayed.
    """

    name = "lean"

    def __init__(self, model: nn.Module, length: int, batch: int):
        self.model, self.length = model, length
        config, device = model.config, model.device
        self.heads = config.num_key_value_heads
        size = _head_size(config)
        self.dtype = model.get_input_embeddings().weight.dtype
        positions = torch.arange(length, device=device)[None]
        probe = torch.zeros(1, dtype=self.dtype, device=device)
        cos, sin = model.model.rotary_emb(probe, position_ids=positions)
        self.angles = (cos[0].float().contiguous(), sin[0].float().contiguous())
        steps = _steps(device)
        self.layers = [_LeanLayer(layer, steps) for layer in decoder_layers(model)]
        self.embed, self.norm, self.head = (
            model.model.embed_tokens,
            _Norm(model.model.norm, steps),
            model.lm_head,
        )
        shape = (batch, self.heads, length, size)
        self.caches = [
            tuple(torch.zeros(shape, dtype=self.dtype, device=device) for _ in range(2)) for _ in self.layers
        ]
        self.position = 0
        self.recorded = _Recorded(self, batch, device) if device.type == "cuda" else None

    @torch.inference_mode()
    def prompt(self, ids: Tensor) -> Tensor:
        self.position = ids.shape[1]
        cache = DynamicCache(config=self.model.config)
        logits = self.model(input_ids=ids, past_key_values=cache).logits[:, -1]
        for layer, (keys, values) in zip(cache.layers, self.caches, strict=True):
            keys[:, :, : self.position] = layer.keys
            values[:, :, : self.position] = layer.values
        return logits

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        if self.position >= self.length:
            raise ValueError(f"position {self.position} is beyond the cache of {self.length}")
        forward = self.recorded or self.forward
        logits = forward(ids, self.position)
        self.position += 1
        return logits

    def forward(self, ids: Tensor, position: int | Tensor) -> Tensor:
        """Return the logits after `ids` (batch) at a position, on a GPU an int64 tensor (1)."""
        hidden, delta = self.embed(ids)[:, None].contiguous(), None
        for layer, cache in zip(self.layers, self.caches, strict=True):
            delta = layer(hidden, delta, self.angles, cache, position)
        return self.head(self.norm(hidden, delta))[:, 0]


class _Recorded:
    """A decoder's step as a CUDA graph."""

    @torch.inference_mode()
    def __init__(self, decoder: LeanDecoder, batch: int, device: torch.device):
        self.ids = torch.zeros(batch, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        settle = _settle_of(decoder.head)

        def step() -> Tensor:
            logits = decoder.forward(self.ids, self.position)
            settle()  # what the dense products of this step have read
            return logits

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = step()

    def __call__(self, ids: Tensor, position: int) -> Tensor:
        self.ids.copy_(ids)
        self.position.fill_(position)
        self.graph.replay()
        return self.logits.clone()


def _settle_of(layer: nn.Module) -> Callable[[], None]:
    product = getattr(layer, "product", None)
    return product.engine.settle if product is not None else lambda: None


def _steps(device: torch.device) -> Any:
    """Return what has `add_norm`, `attend` and `gated` for a device."""
    if device.type == "cuda":
        from actsparse.kernels.gpu import steps  # here, for most machines have no Triton

        return steps
    operators = torch.ops.actsparse
    return SimpleNamespace(
        add_norm=operators.add_norm.default, attend=operators.attend.default, gated=operators.gated.default
    )


class _Norm:
    """The residual and the norm after it."""

    def __init__(self, norm: nn.Module, steps: Any):
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon
        self.operator = steps.add_norm

    def __call__(self, hidden: Tensor, delta: Tensor | None) -> Tensor:
        return self.operator(hidden, delta, self.weight, self.epsilon)


class _LeanLayer:
    """One decoder layer, for one token of each sequence."""

    def __init__(self, layer: nn.Module, steps: Any):
        attention, network = layer.self_attn, layer.mlp
        self.before, self.between = (
            _Norm(layer.input_layernorm, steps),
            _Norm(layer.post_attention_layernorm, steps),
        )
        self.project = _together(attention.q_proj, attention.k_proj, attention.v_proj)
        self.attend, self.scaling = steps.attend, attention.scaling
        self.output = _together(attention.o_proj)
        self.network = _lean_network(network, steps) or network

    def __call__(self, hidden, delta, angles, cache, position) -> Tensor:
        x = self.project(self.before(hidden, delta))
        x = self.output(self.attend(x, *angles, *cache, position, self.scaling))
        return self.network(self.between(hidden, x))


def _together(*layers: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what computes the outputs of all layers side by side; by one product where they share it."""
    product = getattr(layers[0], "product", None)
    whole = product is not None and len(product.weights.sizes) == len(layers)
    if whole and all(getattr(layer, "product", None) is product for layer in layers):
        return product
    return lambda x: torch.cat([layer(x) for layer in layers], dim=-1)


def _lean_network(network: nn.Module, steps: Any) -> Callable[[Tensor], Tensor] | None:
    """Return down(silu(gate) * up) of three products, or None where the network is another one."""
    layers = [getattr(network, word, None) for word in ("gate_proj", "up_proj", "down_proj")]
    if None in layers or not isinstance(network.act_fn, SiLUActivation | nn.SiLU):
        return None
    both, down = _together(*layers[:2]), _together(layers[2])
    return lambda x: down(steps.gated(both(x)))


def make_decoder(model: nn.Module, length: int, batch: int = 1) -> Decoder:
    """Return the fastest decoder that knows the model, for `batch` sequences of `length` tokens at most."""
    config = model.config
    slides = (getattr(config, "sliding_window", None) or length) < length and getattr(
        config, "use_sliding_window", True
    )
    if config.model_type in LEAN and not slides and _steps_known(model):
        return LeanDecoder(model, length, batch)
    return TransformersDecoder(model, length)


def _steps_known(model: nn.Module) -> bool:
    """Tell whether the steps between products have kernels for the model's device and dtype."""
    placed = {(parameter.device.type, parameter.dtype) for parameter in model.parameters()}
    if len(placed) > 1:
        return False
    device, dtype = placed.pop()
    if device == "cuda":
        size = _head_size(model.config)
        return dtype in KERNEL_DTYPES[device] and size & (size - 1) == 0 and has_triton()
    return device == "cpu" and dtype in KERNEL_DTYPES[device] and load_kernels() is None


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


@dataclass
class Times:
    """What tokens took: `milliseconds` of each, median and quartiles of them."""

    milliseconds: list[float]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The first quartile, the median and the third; of one value, that value."""
        if len(self.milliseconds) == 1:
            return (self.milliseconds[0],) * 3
        return tuple(quantiles(self.milliseconds, n=4, method="inclusive"))

    @property
    def median(self) -> float:
        """Milliseconds."""
        return self.quartiles[1]


def time_tokens(decoder: Decoder, text: Tensor, prompt_tokens: int) -> Times:
    """Decode a text whose tokens are given, int64 (batch, tokens), and time each after the prompt.

    The text drives the model, not what it would say, so that every scheme is measured on the same tokens.
    """
    decoder.prompt(text[:, :prompt_tokens])
    times = []
    for ids in text[:, prompt_tokens:].unbind(1):
        start = perf_counter()
        decoder.step(ids)
        if text.is_cuda:
            torch.cuda.synchronize()
        times.append((perf_counter() - start) * 1e3)
    return Times(times)


def generate(decoder: Decoder, prompt: Tensor, new_tokens: int) -> Tensor:
    """Return the tokens, int64 (batch, new_tokens), that the model holds most likely after a prompt."""
    ids = decoder.prompt(prompt).argmax(-1)
    found = [ids]
    for _ in range(new_tokens - 1):
        ids = decoder.step(ids).argmax(-1)
        found.append(ids)
    return torch.stack(found, 1)


def decoded_nll(decoder: Decoder, text: Tensor, prompt_tokens: int = 1) -> float:
    """Return the mean negative log-likelihood of a text's tokens after the prompt, one decoded after the
    other.

    text: int64 (batch, tokens). What the scheme does to prompts matters to the cache alone.
    """
    logits = decoder.prompt(text[:, :prompt_tokens])
    total, steps = 0.0, text[:, prompt_tokens:].unbind(1)
    for i, ids in enumerate(steps):
        total += nn.functional.cross_entropy(logits.float(), ids, reduction="mean").item()
        if i + 1 < len(steps):
            logits = decoder.step(ids)
    return total / len(steps)
