"""Text passes through a model in windows, watched; eight times the tokens take no more memory."""

import json
import subprocess
import sys

import pytest
import torch
from actsparse.models.streaming import Once, stream, watched
from tiny_models import load_tiny_model, save_tiny_model, token_windows
from tiny_study import ROOT
from torch import nn


def test_peak_memory_does_not_grow_with_the_text():
    call = [sys.executable, str(ROOT / "benchmarks/streaming_memory.py"), "4096", "32768"]
    printed = subprocess.run(call, check=True, capture_output=True, text=True, timeout=300).stdout
    *_, largest, ratios = printed.splitlines()
    assert float(largest.split()[2]) > 100, "the patterns must be larger than what may be held of them"
    assert json.loads(ratios)["peak_growth"] < 0.05


def test_places_see_what_their_modules_get_and_make_and_are_left_alone_afterwards():
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    model, x, seen = nn.Sequential(first, second), torch.randn(5, 3), []
    watching = watched([("first", first), ("second", second)], lambda *found: seen.append(found))
    with pytest.raises(RuntimeError, match="enough"), torch.no_grad(), watching:
        model(x)
        raise RuntimeError("enough")
    model(x)
    assert [place for place, *_ in seen] == ["first", "second"]
    (_, x0, y0), (_, x1, y1) = seen
    assert x0 is x and x1 is y0
    assert torch.equal(y0, x @ first.weight.T + first.bias)
    assert torch.equal(y1, y0 @ second.weight.T + second.bias)


def test_one_tensor_is_seen_once_and_an_equal_one_again():
    calls = []
    once = Once(lambda x, word: calls.append(word) or word)
    x = torch.ones(2)
    assert [once(x, "a"), once(x, "b"), once(x.clone(), "c"), once(x, "d")] == ["a", "a", "c", "d"]
    assert calls == ["a", "c", "d"]


def test_windows_pass_one_by_one_without_gradients_or_logits(tmp_path):
    model = load_tiny_model(save_tiny_model("llama", tmp_path)).requires_grad_(True)
    windows, seen, logits = token_windows(3, 7), [], []
    handle = model.lm_head.register_forward_hook(lambda *found: logits.append(found))
    with watched([(0, model.get_decoder().layers[0])], lambda place, x, y: seen.append(x)):
        stream(model, windows.int())
    handle.remove()
    assert not logits and not any(x.requires_grad for x in seen)
    embedded = model.get_input_embeddings().weight
    assert all(torch.equal(x, embedded[window][None]) for x, window in zip(seen, windows, strict=True))
