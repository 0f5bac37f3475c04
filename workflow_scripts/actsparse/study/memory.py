"""How much memory a job needs, from the model's sizes."""

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
RUNTIME_MB = 1500  # the libraries themselves
UNKNOWN_MB = 4000


def evaluation_memory_mb(shape: dict[str, int] | None, dtype: str, tokens: int) -> int:
    """Return the memory in MB (2^20 bytes) that evaluating a model takes, wherever it runs.

    That is the weights, the activations of one layer for `tokens` tokens at a time, and their logits, once in
    the model's dtype and once in float32. Embedding and output matrix are counted both, tied or not. Without
    the sizes (`shape`, in the words of the model's config.json) it is UNKNOWN_MB.
    """
    if not shape or "vocab_size" not in shape:
        return UNKNOWN_MB
    hidden, inner, vocabulary = shape["hidden_size"], shape["intermediate_size"], shape["vocab_size"]
    heads = shape.get("num_attention_heads", 1)
    head = shape.get("head_dim", hidden // heads)
    attention = hidden * head * 2 * (heads + shape.get("num_key_value_heads", heads))
    weights = 2 * vocabulary * hidden + shape["num_hidden_layers"] * (attention + 3 * hidden * inner)
    activations = tokens * (6 * hidden + 4 * inner)
    logits = tokens * vocabulary
    size = BYTES[dtype] * (weights + activations + logits) + 4 * logits
    return RUNTIME_MB + -(-size // 2**20)


def hidden_states_mb(shape: dict[str, int] | None, dtype: str, tokens: int) -> int:
    """Return the memory in MB (2^20 bytes) that the inputs of all layers take for `tokens` tokens.

    0 without the sizes.
    """
    if not shape:
        return 0
    return -(-tokens * shape["num_hidden_layers"] * shape["hidden_size"] * BYTES[dtype] // 2**20)
