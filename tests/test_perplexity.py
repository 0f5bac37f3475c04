"""Perplexity equals the definition written out in float64."""

import math

import pytest
import torch
from actsparse.evaluation.perplexity import bits_per_byte, measure_perplexity
from tiny_models import load_tiny_model, save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_tiny_model(save_tiny_model("llama", tmp_path_factory.mktemp("llama")))


def windows(count, length):
    return torch.randint(
        0, 100, (count, length), generator=torch.Generator().manual_seed(count), dtype=torch.int32
    )


@pytest.mark.parametrize(("count", "length"), [(1, 2), (3, 17), (2, 300)])
def test_equals_the_definition(model, count, length):
    tokens = windows(count, length)
    losses = []
    with torch.inference_mode():
        for window in tokens.long():
            logs = model(window[None]).logits[0].double().log_softmax(-1)
            losses += [-logs[i, window[i + 1]].item() for i in range(length - 1)]
    measured = measure_perplexity(model, tokens)
    assert measured["value"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-6)
    assert measured["tokens"] == len(losses)
    assert measured["windows"] == count
    assert (measured["stderr"] is None) == (count == 1)


def test_a_perplexity_that_is_not_finite_is_none(model):
    hook = model.lm_head.register_forward_hook(lambda module, args, output: output * math.nan)
    measured = measure_perplexity(model, windows(2, 8))
    hook.remove()
    assert measured["value"] is None and measured["stderr"] is None


def test_bits_a_byte_are_the_definition():
    nll, tokens, sizes = [2.0, 3.0, 2.5], 7, [20, 40, 30]
    found = bits_per_byte(nll, tokens, sizes)
    value = (2.0 + 3.0 + 2.5) * 7 / math.log(2) / 90
    assert found["value"] == pytest.approx(value, rel=1e-12)
    rests = [a * 7 / math.log(2) - value * size for a, size in zip(nll, sizes, strict=True)]
    error = math.sqrt(sum(rest**2 for rest in rests) / 2) / 30 / math.sqrt(3)
    assert found["stderr"] == pytest.approx(error, rel=1e-9)
    assert bits_per_byte([2.0], 7, [20])["stderr"] is None
    assert bits_per_byte([2.0, None], 7, [20, 20]) == {"value": None, "stderr": None}
