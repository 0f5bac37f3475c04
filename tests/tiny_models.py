"""Tiny randomly initialised models made from real config classes, saved and loaded as users load them."""

from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
    Starcoder2Config,
)

LAYERS = 2

# Widths divide by 16. Attention (4 heads of 8) is narrower than the hidden size where the architecture allows
# it, so that they cannot be mixed up.
SIZES = {
    "vocab_size": 128,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# Llama-like configs take the head dimension as hidden_size // heads unless they are told.
HEAD_DIM = {"head_dim": 8}


def _gemma3() -> Gemma3Config:
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    text = Gemma3TextConfig(**SIZES, **HEAD_DIM, query_pre_attn_scalar=8, sliding_window=16)
    return Gemma3Config(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        mm_tokens_per_image=4,
        image_token_index=100,
        boi_token_index=101,
        eoi_token_index=102,
    )


def _opt() -> OPTConfig:
    sizes = dict(SIZES)
    for key in ("intermediate_size", "num_key_value_heads", "initializer_range"):
        del sizes[key]
    return OPTConfig(**sizes, ffn_dim=96, word_embed_proj_dim=48, init_std=0.2)


def _without(sizes: dict, key: str) -> dict:
    return {name: value for name, value in sizes.items() if name != key}


CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZES, **HEAD_DIM),
    "mistral": lambda: MistralConfig(**SIZES, **HEAD_DIM, sliding_window=16),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES, **HEAD_DIM),
    "gemma2": lambda: Gemma2Config(**SIZES, **HEAD_DIM, query_pre_attn_scalar=8, sliding_window=16),
    "gemma3": _gemma3,
    "phi3": lambda: Phi3Config(**SIZES),
    "opt": _opt,
    "phi": lambda: PhiConfig(**SIZES),
    "gpt_neox": lambda: GPTNeoXConfig(**_without(SIZES, "num_key_value_heads")),
    "falcon": lambda: FalconConfig(**_without(SIZES, "num_key_value_heads"), ffn_hidden_size=96),
    "starcoder2": lambda: Starcoder2Config(**SIZES),
}
# Those whose feed-forward networks have no gate, and those whose q, k and v are the mixed rows of one layer.
UNGATED = {"opt", "phi", "gpt_neox", "falcon", "starcoder2"}
INTERLEAVED = {"gpt_neox", "falcon"}


def save_tiny_model(architecture: str, folder: Path, bias: float = 0.5, seed: int = 0) -> Path:
    """Write a tiny model of the architecture to `folder`, with the biases it has drawn with scale `bias`."""
    config: PretrainedConfig = CONFIGS[architecture]()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.normal_(std=bias)
    model.save_pretrained(folder)
    return folder


def load_tiny_model(folder: Path) -> PreTrainedModel:
    """Load a saved tiny model in float32, as a job of the workflow does."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    return model.eval().requires_grad_(False)


def token_windows(count: int, length: int, seed: int = 0) -> torch.Tensor:
    """Return random token ids, int64 (count, length), without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 100, (count, length), generator=generator)
