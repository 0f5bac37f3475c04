"""Sizes are read from config.json in one vocabulary; experts and missing gates are told before any job."""

import json

import pytest
import transformers
from actsparse.models.sizes import SYNONYMS, expert_count, has_gate, sizes_of
from tiny_models import CONFIGS, UNGATED, save_tiny_model

NAMED = (
    "GPT2Config",
    "GPTJConfig",
    "GPTNeoConfig",
    "GPTBigCodeConfig",
    "CodeGenConfig",
    "BloomConfig",
    "MptConfig",
)


@pytest.mark.parametrize("name", NAMED)
def test_synonyms_are_those_of_transformers(name):
    attributes = getattr(transformers, name).attribute_map
    assert attributes
    for size, written in attributes.items():
        if size in SYNONYMS:
            assert written in SYNONYMS[size]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_sizes_are_those_of_the_architecture(tmp_path, architecture):
    found = json.loads((save_tiny_model(architecture, tmp_path / "m") / "config.json").read_text())
    sizes = sizes_of(found)
    expected = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    assert {key: sizes[key] for key in expected} == expected
    assert sizes["vocab_size"] == 128
    kv = {"opt": 4, "gpt_neox": 4, "falcon": 1}.get(architecture, 2)
    assert sizes["num_key_value_heads"] == kv
    own = {"llama", "mistral", "qwen3", "gemma2", "gemma3"}
    assert sizes["head_dim"] == (8 if architecture in own else 12)
    assert has_gate(found) == (architecture not in UNGATED)


def test_what_a_config_leaves_out():
    assert sizes_of({"model_type": "gpt2", "n_embd": 48, "n_inner": None})["intermediate_size"] == 192
    assert sizes_of({"model_type": "gpt2", "n_embd": 48, "n_inner": 50})["intermediate_size"] == 50
    assert "intermediate_size" not in sizes_of({"model_type": "llama", "hidden_size": 48})
    nested = {"thinker_config": {"text_config": {"hidden_size": 7}}, "hidden_size": 9}
    assert sizes_of(nested) == {"hidden_size": 7}
    assert expert_count({"text_config": {"num_experts": 8}}) == 8
    assert expert_count({"num_local_experts": 4}) == 4
    assert expert_count({"hidden_size": 4}) == 0
