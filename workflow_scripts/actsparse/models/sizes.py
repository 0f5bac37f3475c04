"""A model's sizes in one vocabulary, whatever words its config.json has for them. Imports no torch."""

from typing import Any

# What the architectures call each size; a test holds this to the attribute maps of transformers.
SYNONYMS = {
    "hidden_size": ("n_embd", "d_model"),
    "intermediate_size": ("ffn_dim", "ffn_hidden_size", "n_inner"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_kv_heads",),
    "head_dim": (),
    "vocab_size": (),
    "max_position_embeddings": ("n_positions", "max_seq_len"),
}
# Without these nothing can be told of a model.
REQUIRED = ("hidden_size", "intermediate_size", "num_hidden_layers")

# Whose feed-forward network is four times as wide as the hidden states unless its config says otherwise.
FOUR_TIMES = {"bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "mpt"}
# Whose feed-forward network has no gate.
UNGATED = FOUR_TIMES | {"gpt_neox", "opt", "phi", "starcoder2"}
# Where a multimodal model has the config of its language model.
TEXT_CONFIGS = ("thinker_config", "text_config", "language_config", "llm_config")
# What the number of experts of a feed-forward network is called, and how many of them a token goes through.
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "moe_top_k", "moe_k", "top_k_experts")


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a config.json that is the language model's."""
    for key in TEXT_CONFIGS:
        if isinstance(config.get(key), dict):
            return text_config(config[key])
    return config


def sizes_of(config: dict[str, Any]) -> dict[str, int]:
    """Return the sizes that a config.json tells, in the words of SYNONYMS; what it does not tell is left out.

    Head dimension and key-value heads are filled in where they follow from the others.
    """
    config = text_config(config)
    found = {}
    for size, others in SYNONYMS.items():
        values = (config.get(key) for key in (size, *others))
        value = next((value for value in values if type(value) is int), None)
        if value is not None:
            found[size] = value
    kind, hidden, heads = config.get("model_type"), found.get("hidden_size"), found.get("num_attention_heads")
    if hidden and kind in FOUR_TIMES:
        found.setdefault("intermediate_size", 4 * hidden)
    if heads:
        if config.get("multi_query") and not config.get("new_decoder_architecture"):
            found["num_key_value_heads"] = 1
        found.setdefault("num_key_value_heads", heads)
        if hidden:
            found.setdefault("head_dim", hidden // heads)
    return found


def expert_count(config: dict[str, Any]) -> int:
    """Return how many experts a feed-forward network of the model chooses from; 0 where it has none."""
    return _first(config, EXPERTS)


def experts_per_token(config: dict[str, Any]) -> int:
    """Return through how many of its experts a token goes; 0 where the config does not say."""
    return _first(config, EXPERTS_PER_TOKEN)


def has_gate(config: dict[str, Any]) -> bool:
    """Tell whether its feed-forward networks have a gate, as those of most models do."""
    return text_config(config).get("model_type") not in UNGATED


def _first(config: dict[str, Any], keys: tuple[str, ...]) -> int:
    config = text_config(config)
    return next((config[key] for key in keys if type(config.get(key)) is int), 0)
