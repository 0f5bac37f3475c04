"""A tiny Llama with a real tokenizer, saved as transformers saves any model."""

from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 512

# Enough text, repetitive enough, for a few hundred merges.
TRAINING_TEXT = [f"The {noun} of {place} was {verb} in {year}." for year in range(1900, 1920)
                 for noun in ("river", "castle", "language") for place in ("Norway", "Anatolia")
                 for verb in ("described", "discovered")]  # fmt: skip


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of 512 tokens at most. It encodes any text, without special tokens."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(TRAINING_TEXT, vocab_size=VOCABULARY, special_tokens=["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
    )


def tiny_llama(folder: str | Path, seed: int = 0) -> Path:
    """Save a randomly initialised two-layer Llama (float32) and its tokenizer to `folder`."""
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)
