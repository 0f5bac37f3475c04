"""Memory estimates."""

from actsparse.study.memory import RUNTIME_MB, UNKNOWN_MB, evaluation_memory_mb, hidden_states_mb

LLAMA_2_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}


def test_weights_dominate():
    parameters = 6_738_149_376  # of the checkpoint, 6,738,415,616 less its norms
    expected = 2 * parameters / 2**20
    assert abs(evaluation_memory_mb(LLAMA_2_7B, "float16", 0) - RUNTIME_MB - expected) < 1


def test_logits_are_counted_twice():
    less, more = (evaluation_memory_mb(LLAMA_2_7B, "bfloat16", tokens) for tokens in (0, 2048))
    assert 2048 * 32000 * 6 / 2**20 < more - less < 1000


def test_unknown_sizes():
    assert evaluation_memory_mb(None, "float32", 2048) == UNKNOWN_MB


def test_hidden_states_are_those_of_all_layers():
    assert hidden_states_mb(LLAMA_2_7B, "bfloat16", 65_536) == 32 * 65_536 * 4096 * 2 / 2**20
    assert hidden_states_mb(None, "float32", 2048) == 0
