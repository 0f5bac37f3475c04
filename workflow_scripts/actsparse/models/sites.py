"""Sites: the places of a decoder where sparsity is applied, found by name."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from actsparse.models.projections import FUSED, INTERLEAVED, PUBLISHED_PROJECTIONS, SYNONYMS
from actsparse.models.sizes import expert_count, experts_per_token

Side = Literal["input", "output", "weight"]


@dataclass(frozen=True)
class Site:
    """One projection of one decoder layer, on its input, its output or its weight.

    A fused layer is one site on its input (its parts share it) and one site per part on its output or
    weight; `rows` are then the part's output rows (else None), and `name` ends in "[<part>]". `block` is
    the module that owns the layer: the attention or the feed-forward network, in OPT the decoder layer.
    """

    layer: int
    projection: str
    side: Side
    name: str
    module: nn.Linear
    rows: slice | None = None
    block: nn.Module | None = None

    @property
    def width(self) -> int:
        """Number of elements of the last dimension of what is pruned here."""
        return self.out_features if self.side == "output" else self.module.in_features

    @property
    def module_name(self) -> str:
        """Name of the linear layer in the model, which parts of a fused layer share."""
        return self.name.partition("[")[0]

    @property
    def out_features(self) -> int:
        """Number of outputs of the projection."""
        return len(range(self.module.out_features)[self.rows or slice(None)])

    @property
    def activation(self) -> Callable[[Tensor], Tensor]:
        """The activation function of its block. Raises ValueError where that has none."""
        named = (getattr(self.block, name, None) for name in ("act_fn", "activation_fn", "act"))
        found = next((function for function in named if function is not None), None)
        if found is None:
            raise ValueError(f"{self.name}: {type(self.block).__name__} has no activation function")
        return found

    @property
    def weight(self) -> Tensor:
        """The projection's weight, (out_features, in_features); of a part of a fused layer, a view."""
        return self.module.weight if self.rows is None else self.module.weight[self.rows]

    def part(self, output: Tensor) -> Tensor:
        """Return what the projection contributes to its layer's output, (..., out_features); a view."""
        return output if self.rows is None else output[..., self.rows]


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the language model's decoder layers; of a multimodal model, those of its text model.

    Raises ValueError that lists the linear layers of a model that has no such list.
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    layers = getattr(decoder, "layers", getattr(decoder, "h", None))
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"{type(model).__name__}: no decoder layers found; {_linear_layers(model)}")
    return layers


def find_sites(
    model: nn.Module, projections: Iterable[str], side: Side, layers: str | None = None
) -> list[Site]:
    """Return the sites whose projection fully matches one of `projections` (names or regular expressions).

    `layers` restricts them to some decoder layers, such as "4-27" or "0,2,5-" (counted from 0, both ends
    included); None means all. A part of a fused layer selects the whole layer on the input side. Order: by
    layer, then as the module tree has them. Raises ValueError when a projection matches nothing, and when it
    is in layers that cannot be pruned: experts, transposed weights, parts of an interleaved layer alone.
    """
    decoder = decoder_layers(model)
    wanted = set(range(len(decoder)) if layers is None else parse_layers(layers, len(decoder)))
    names = {id(module): name for name, module in model.named_modules()}
    patterns = {word: re.compile(word) for word in projections}
    unmatched = set(patterns)
    _refuse_other_layers(model, decoder, patterns.values())
    sites = []
    for index, layer in enumerate(decoder):
        for path, module in layer.named_modules():
            if not isinstance(module, nn.Linear):
                continue
            owner, _, leaf = path.rpartition(".")
            block = layer.get_submodule(owner)
            # Attention and feed-forward network may call their last projection alike.
            known = "out_proj" if leaf == "c_proj" and "attn" in owner else leaf
            for projection, aliases, rows in _parts(model, known, module, side):
                matched = {word for word, pattern in patterns.items() if any(map(pattern.fullmatch, aliases))}
                unmatched -= matched
                if matched and leaf in INTERLEAVED:
                    _refuse_parts(model, leaf, side, patterns.values())
                if matched and index in wanted:
                    name = names[id(module)] + (f"[{projection}]" if rows else "")
                    sites.append(Site(index, projection, side, name, module, rows, block))
    if unmatched:
        raise ValueError(
            f"{type(model).__name__}: no projection matches {', '.join(sorted(unmatched))}; "
            f"{_linear_layers(model)}"
        )
    return sites


def parse_layers(text: str, count: int) -> list[int]:
    """Return the layers that a text such as "4-27", "0,2,5-" or "3" names, in increasing order.

    Raises ValueError when the text is malformed or names a layer that is not below `count`.
    """
    chosen: set[int] = set()
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*(\d+)(-(\d*))?\s*", part)
        if not match:
            raise ValueError(f"layers: {text!r} is not allowed (expected such as '4-27', '0,2,5-')")
        first = int(match[1])
        last = first if match[2] is None else int(match[3] or count - 1)
        if not first <= last < count:
            raise ValueError(f"layers: {part.strip()!r} is outside the model's layers 0-{count - 1}")
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def published_count(model: nn.Module, projections: Iterable[str] = PUBLISHED_PROJECTIONS) -> int:
    """Return how many linear layers the artifact of arXiv 2509.22166 counts as replaced for `projections`.

    It goes by the last part of a module's name alone, so it also counts the vision tower's q, k and v: 319
    for Gemma-3-4B, whose language model has 238. It knows neither fused layers nor a choice of layers.
    """
    wanted = [re.compile(word) for word in projections]
    return sum(
        isinstance(module, nn.Linear) and any(word.fullmatch(name.rpartition(".")[2]) for word in wanted)
        for name, module in model.named_modules()
    )


def _parts(
    model: nn.Module, leaf: str, module: nn.Linear, side: Side
) -> Iterator[tuple[str, tuple[str, ...], slice | None]]:
    """Yield (projection, names that select it, output rows) for a linear layer called `leaf`."""
    projection = SYNONYMS.get(leaf, leaf)
    if leaf in INTERLEAVED:
        yield leaf, (leaf, *INTERLEAVED[leaf]), None
        return
    parts = FUSED.get(leaf, ())
    if not parts or side == "input":
        yield projection, (projection, leaf, *parts), None
        return
    start = 0
    for part, size in zip(parts, _part_sizes(model, parts, module), strict=True):
        yield part, (part, leaf), slice(start, start + size)
        start += size


def _refuse_parts(model: nn.Module, leaf: str, side: Side, patterns: Iterable[re.Pattern]) -> None:
    """Raise ValueError unless all of an interleaved layer is meant."""
    patterns = list(patterns)
    if side == "input" or any(pattern.fullmatch(leaf) for pattern in patterns):
        return
    whole = all(any(pattern.fullmatch(part) for pattern in patterns) for part in INTERLEAVED[leaf])
    if side == "output" or not whole:
        raise ValueError(
            f"{type(model).__name__}: the {side}s of {', '.join(INTERLEAVED[leaf])} are mixed in {leaf}, "
            f"head by head; name {leaf} to prune all of it; {_linear_layers(model)}"
        )


def _refuse_other_layers(model: nn.Module, decoder: nn.ModuleList, patterns: Iterable[re.Pattern]) -> None:
    """Raise ValueError for projections that are asked for, but are no linear layers of torch."""
    if any(isinstance(module, Conv1D) for module in decoder.modules()):
        raise ValueError(
            f"{type(model).__name__}: its layers are Conv1D, with transposed weights, and cannot be pruned; "
            f"{_linear_layers(model)}"
        )
    experts = next((name for name, _ in expert_weights(decoder)), None)
    words = ("gate_proj", "up_proj", "down_proj", "gate_up_proj")
    if experts and any(pattern.fullmatch(word) for pattern in patterns for word in words):
        raise ValueError(
            f"{type(model).__name__}: its experts (such as {experts}) are no linear layers and cannot be "
            f"pruned (allowed: projections of the attention); {_linear_layers(model)}"
        )


def expert_weights(layers: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield name and weight, (experts, ...), of what a token goes through some experts of."""
    for name, parameter in layers.named_parameters():
        if parameter.ndim == 3 and "experts" in name:
            yield name, parameter


def covered_macs(model: nn.Module, sites: Iterable[Site]) -> float:
    """Return the part of the decoder layers' linear multiply-adds that is made at the sites; 0.0 without any.

    A linear layer makes as many for each token as its weight has elements. Those of experts count by the part
    of them that a token goes through. Attention scores, embeddings and the output matrix do not count.
    """
    decoder = decoder_layers(model)
    total = sum(m.weight.numel() for m in decoder.modules() if isinstance(m, nn.Linear | Conv1D))
    config = model.config.to_dict() if hasattr(model, "config") else {}
    part = experts_per_token(config) / (expert_count(config) or 1) or 1
    total += sum(part * weight.numel() for _, weight in expert_weights(decoder))
    return sum(site.weight.numel() for site in sites) / total


def _part_sizes(model: nn.Module, parts: tuple[str, ...], module: nn.Linear) -> list[int]:
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_value = (getattr(config, "num_key_value_heads", None) or heads) * head_dim
    sizes = {"q_proj": heads * head_dim, "k_proj": key_value, "v_proj": key_value}
    found = [sizes.get(part, module.out_features // len(parts)) for part in parts]
    if sum(found) != module.out_features:
        raise ValueError(
            f"{type(model).__name__}: cannot split a fused layer of {module.out_features} outputs into "
            f"{', '.join(parts)}; {_linear_layers(model)}"
        )
    return found


def _linear_layers(model: nn.Module) -> str:
    kinds = {
        re.sub(r"\.\d+\.", ".*.", name)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    return f"its linear layers are {', '.join(sorted(kinds)) or 'none'}"
