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
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache, StaticCache
from transformers.activations import SiLUActivation

from actsparse.kernels.cpu.build import load_kernels
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
    """transformers' own forward pass, of any architecture; `compiled`: by torch.compile, static cache."""

    def __init__(self, model: nn.Module, length: int, compiled: bool = False):
        self.model, self.length, self.compiled = model, length, compiled
        self.name = "transformers, compiled" if compiled else "transformers"
        self.forward = torch.compile(self._forward) if compiled else self._forward
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
        return self._forward(ids, torch.arange(self.position))[:, -1]

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        logits = self.forward(ids[:, None], torch.tensor([self.position]))[:, -1]
        self.position += 1
        return logits


class LeanDecoder:
    """A Llama's forward pass for one token in as few calls as can be: on a CPU they cost what products do."""

    name = "lean"

    def __init__(self, model: nn.Module, length: int):
        self.model, self.length = model, length
        config = model.config
        self.heads = config.num_key_value_heads
        self.size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.dtype = model.get_input_embeddings().weight.dtype
        positions = torch.arange(length)[None]
        cos, sin = model.model.rotary_emb(torch.zeros(1, dtype=self.dtype), position_ids=positions)
        self.angles = (cos[0].float().contiguous(), sin[0].float().contiguous())
        self.layers = [_LeanLayer(layer) for layer in decoder_layers(model)]
        self.embed, self.norm, self.head = model.model.embed_tokens, _Norm(model.model.norm), model.lm_head

    @torch.inference_mode()
    def prompt(self, ids: Tensor) -> Tensor:
        batch, self.position = ids.shape
        shape = (batch, self.heads, self.length, self.size)
        self.caches = [tuple(torch.zeros(shape, dtype=self.dtype) for _ in range(2)) for _ in self.layers]
        cache = DynamicCache(config=self.model.config)
        logits = self.model(input_ids=ids, past_key_values=cache).logits[:, -1]
        for layer, (keys, values) in zip(cache.layers, self.caches, strict=True):
            keys[:, :, : self.position] = layer.keys
            values[:, :, : self.position] = layer.values
        return logits

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        hidden, delta = self.embed(ids)[:, None].contiguous(), None
        for layer, cache in zip(self.layers, self.caches, strict=True):
            delta = layer(hidden, delta, self.angles, cache, self.position)
        self.position += 1
        return self.head(self.norm(hidden, delta))[:, 0]


class _Norm:
    """The residual and the norm after it."""

    def __init__(self, norm: nn.Module):
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon
        self.operator = torch.ops.actsparse.add_norm.default

    def __call__(self, hidden: Tensor, delta: Tensor | None) -> Tensor:
        return self.operator(hidden, delta, self.weight, self.epsilon)


class _LeanLayer:
    """One decoder layer, for one token of each sequence."""

    def __init__(self, layer: nn.Module):
        attention, network = layer.self_attn, layer.mlp
        self.before, self.between = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        self.project = _together(attention.q_proj, attention.k_proj, attention.v_proj)
        self.attend, self.scaling = torch.ops.actsparse.attend.default, attention.scaling
        self.output = _together(attention.o_proj)
        self.network = _lean_network(network) or network

    def __call__(self, hidden, delta, angles, cache, position) -> Tensor:
        x = self.project(self.before(hidden, delta))
        x = self.output(self.attend(x, *angles, *cache, position, self.scaling))
        return self.network(self.between(hidden, x))


def _together(*layers: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what computes the outputs of all layers, joined; by one product where they share it."""
    product = getattr(layers[0], "product", None)
    whole = product is not None and len(product.weights.sizes) == len(layers)
    if whole and all(getattr(layer, "product", None) is product for layer in layers):
        return product
    return lambda x: torch.cat([layer(x) for layer in layers], dim=-1)


def _lean_network(network: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return down(silu(gate) * up) of three products, or None where the network is another one."""
    layers = [getattr(network, word, None) for word in ("gate_proj", "up_proj", "down_proj")]
    if None in layers or not isinstance(network.act_fn, SiLUActivation | nn.SiLU):
        return None
    both, down, gated = _together(*layers[:2]), _together(layers[2]), torch.ops.actsparse.gated.default
    return lambda x: down(gated(both(x)))


def make_decoder(model: nn.Module, length: int) -> Decoder:
    """Return the fastest decoder that knows the model, of `length` tokens at most."""
    config = model.config
    dtypes = {(parameter.device.type, parameter.dtype) for parameter in model.parameters()}
    known = dtypes in ({("cpu", torch.float32)}, {("cpu", torch.bfloat16)})
    slides = (getattr(config, "sliding_window", None) or length) < length and getattr(
        config, "use_sliding_window", True
    )
    if config.model_type in LEAN and known and not slides and load_kernels() is None:
        return LeanDecoder(model, length)
    return TransformersDecoder(model, length)


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
    """Return the mean negative log-likelihood of a text's tokens after the prompt, decoded one by one.

    text: int64 (batch, tokens). What the scheme does to prompts matters to the cache alone.
    """
    logits = decoder.prompt(text[:, :prompt_tokens])
    total, steps = 0.0, text[:, prompt_tokens:].unbind(1)
    for i, ids in enumerate(steps):
        total += nn.functional.cross_entropy(logits.float(), ids, reduction="mean").item()
        if i + 1 < len(steps):
            logits = decoder.step(ids)
    return total / len(steps)
