"""Distances to the dense model equal their definitions, written out over all logits in float64."""

import math

import pytest
import torch
from actsparse.evaluation.distance import measure_distance
from actsparse.evaluation.flips import compare_answers
from actsparse.evaluation.predictions import KEPT, predict, save_predictions
from actsparse.study import memory
from tiny_models import load_tiny_model, save_tiny_model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A dense model, and one whose weights were moved."""
    folder = save_tiny_model("llama", tmp_path_factory.mktemp("llama"))
    dense, other = load_tiny_model(folder), load_tiny_model(folder)
    torch.manual_seed(3)
    with torch.no_grad():
        dense.lm_head.weight *= 6  # predictions of some certainty
        other.lm_head.weight.copy_(dense.lm_head.weight)
        for layer in other.model.layers:
            layer.mlp.up_proj.weight += 0.05 * torch.randn_like(layer.mlp.up_proj.weight)
            layer.mlp.down_proj.weight += 0.05 * torch.randn_like(layer.mlp.down_proj.weight)
    return dense, other


def windows(count, length):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 100, (count, length), generator=generator, dtype=torch.int32)


def measured(dense, other, tokens, folder):
    save_predictions(folder / "predictions.safetensors", predict(dense, tokens))
    return measure_distance(other, tokens, folder / "predictions.safetensors")


def logs_of(model, window):
    with torch.inference_mode():
        return model(window[None].long()).logits[0, :-1].double().log_softmax(-1)


def written_out(dense, other, tokens):
    """Means over each window: KL over k + 1 outcomes, KL over all, agreement, falls, squares of logits."""
    rows = []
    for window in tokens:
        p, q = logs_of(dense, window), logs_of(other, window)
        kl, whole, same, falls, squares = [], [], [], [], []
        for one, two, following in zip(p, q, window[1:].long(), strict=True):
            kept = one.argsort(descending=True)[:KEPT]
            others = sorted(set(range(len(one))) - set(kept.tolist()))
            rest = one[others].exp().sum(), two[others].exp().sum()
            within = sum(math.exp(one[i]) * (one[i] - two[i]).item() for i in kept)
            of_rest = (rest[0] * (rest[0] / rest[1]).log()).item() if len(one) > KEPT else 0.0
            kl.append(within + of_rest)
            whole.append(sum(math.exp(a) * (a - b) for a, b in zip(one.tolist(), two.tolist(), strict=True)))
            same.append(float(one.argmax() == two.argmax()))
            falls.append(float(two[following].exp() < one[following].exp() / 10))
            gaps = [(one[i] - two[i]).item() for i in kept]
            squares.append(sum((gap - sum(gaps) / len(gaps)) ** 2 for gap in gaps) / len(gaps))
        rows.append([sum(values) / len(values) for values in (kl, whole, same, falls, squares)])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(("count", "length"), [(1, 2), (3, 17), (2, 300)])
def test_equals_the_definition(models, tmp_path, count, length):
    tokens = windows(count, length)
    found = measured(*models, tokens, tmp_path)
    expected = written_out(*models, tokens)
    kl, whole, same, falls, squares = expected.mean(0).tolist()
    # A float16 is within one part in 2,048 of a log-probability.
    assert found["kl"]["value"] == pytest.approx(kl, rel=0.01, abs=1e-4)
    assert found["kl"]["per_window"] == pytest.approx(expected[:, 0].tolist(), rel=0.01, abs=1e-4)
    assert found["kl"]["value"] <= whole * 1.001 and found["kl"]["value"] > 0
    assert found["top1_agreement"]["value"] == pytest.approx(same)
    assert found["tenfold_falls"]["value"] == pytest.approx(falls, abs=1e-9)
    assert found["logit_rms"]["value"] == pytest.approx(math.sqrt(squares), rel=0.01)
    assert found["tokens"] == count * (length - 1) and found["windows"] == count
    if count == 1:
        assert found["kl"]["stderr"] is None
    else:
        for name, column in (("kl", 0), ("top1_agreement", 2), ("tenfold_falls", 3)):
            error = expected[:, column].std().item() / math.sqrt(count)
            assert found[name]["stderr"] == pytest.approx(error, rel=0.05, abs=1e-5)
        error = expected[:, 4].std().item() / math.sqrt(count) / (2 * math.sqrt(squares))
        assert found["logit_rms"]["stderr"] == pytest.approx(error, rel=0.05, abs=1e-5)


def test_a_model_is_no_distance_from_itself(models, tmp_path):
    found = measured(models[0], models[0], windows(2, 300), tmp_path)
    assert found["kl"] == {"value": 0.0, "stderr": 0.0, "per_window": [0.0, 0.0]}
    assert found["logit_rms"] == {"value": 0.0, "stderr": 0.0, "per_window": [0.0, 0.0]}
    assert found["top1_agreement"]["value"] == 1.0 and found["tenfold_falls"]["value"] == 0.0


def test_merged_outcomes_are_a_lower_bound(models, tmp_path):
    """Of each window, but for the rounding; and the bound is no bound where nothing is merged."""
    tokens = windows(3, 40)
    found = measured(*models, tokens, tmp_path)["kl"]["per_window"]
    for value, (merged, whole, *_) in zip(found, written_out(*models, tokens).tolist(), strict=True):
        assert merged <= whole
        assert value <= whole + 0.001 * abs(whole)


def test_what_is_stored(models):
    tokens = windows(2, 9)
    stored = predict(models[0], tokens)
    vocabulary = models[0].config.vocab_size
    kept = min(KEPT, vocabulary)
    assert stored["tokens"].shape == (2, 8, kept) and stored["tokens"].dtype == torch.uint16
    assert stored["logs"].shape == (2, 8, kept + 1) and stored["logs"].dtype == torch.float16
    assert stored["following"].shape == (2, 8) and stored["following"].dtype == torch.float16
    logs = logs_of(models[0], tokens[1])
    ranked = logs.argsort(descending=True)[:, :kept]
    assert torch.equal(stored["tokens"][1].long(), ranked)
    assert torch.allclose(stored["logs"][1, :, :-1].double(), logs.gather(1, ranked), rtol=2**-11)
    assert (stored["logs"].double().exp().sum(-1) - 1).abs().max() < 0.01
    followed = logs[torch.arange(8), tokens[1, 1:].long()]
    assert torch.allclose(stored["following"][1].double(), followed, rtol=2**-11)
    # By which memory is asked for.
    assert memory.KEPT == KEPT
    size = sum(tensor.nbytes for tensor in stored.values())
    asked = memory.predictions(SHAPE | {"vocab_size": vocabulary}, "float32", 8, 2, 0)
    assert asked - memory.evaluation(SHAPE | {"vocab_size": vocabulary}, "float32", 8) == 2 * size


SHAPE = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}


def test_predictions_that_are_not_finite_have_no_distance(models, tmp_path):
    dense, other = models
    tokens = windows(2, 8)
    hook = other.lm_head.register_forward_hook(lambda module, args, output: output * math.nan)
    found = measured(dense, other, tokens, tmp_path)
    hook.remove()
    for name in ("kl", "top1_agreement", "tenfold_falls", "logit_rms"):
        assert found[name] == {"value": None, "stderr": None, "per_window": [None, None]}


def test_predictions_of_fewer_windows_are_refused(models, tmp_path):
    save_predictions(tmp_path / "predictions.safetensors", predict(models[0], windows(1, 8)))
    with pytest.raises(ValueError, match="1 windows, needs 2"):
        measure_distance(models[0], windows(2, 8), tmp_path / "predictions.safetensors")


def item(right, *logs):
    return {"logs": list(logs), "right": right}


def test_flips_are_counted_by_where_they_go():
    dense = {
        "t": [
            item(True, -1.0, -2.0),
            item(True, -1.0, -3.0),
            item(False, -2.0, -1.0),
            item(False, -1, -2, -3),
        ]
    }
    sparse = {
        # kept; right to wrong; wrong to right; from one wrong answer to another
        "t": [
            item(True, -1.0, -2.0),
            item(False, -3.0, -1.0),
            item(True, -1.0, -2.0),
            item(False, -2, -1, -3),
        ]
    }
    found = compare_answers(dense, sparse)["t"]
    assert found["items"] == 4
    assert found["flips"]["per_item"] == [0, 1, 1, 1] and found["flips"]["value"] == 0.75
    assert found["right_to_wrong"]["per_item"] == [0, 1, 0, 0]
    assert found["wrong_to_right"]["per_item"] == [0, 0, 1, 0]
    # The standard deviation of 0, 1, 1, 1 is 1 / 2.
    assert found["flips"]["stderr"] == pytest.approx(0.25)
    a, b = math.exp(-1) / (math.exp(-1) + math.exp(-3)), math.exp(-3) / (math.exp(-1) + math.exp(-3))
    c = [math.exp(log) / sum(map(math.exp, (-1, -2, -3))) for log in (-1, -2, -3)]
    expected = [0.0, (a - b) * 2, (math.e - 1) / (math.e + 1), c[0] - c[1]]
    assert found["choices_kl"]["per_item"] == pytest.approx(expected)
    assert found["choices_kl"]["value"] == pytest.approx(sum(expected) / 4)
    same = compare_answers(dense, dense)["t"]
    assert all(same[name]["value"] == 0.0 for name in ("flips", "right_to_wrong", "choices_kl"))


def test_an_item_without_likelihoods_has_flipped():
    found = compare_answers({"t": [item(True, -1.0, -2.0)]}, {"t": [item(True, None, -2.0)]})["t"]
    assert found["flips"]["value"] == 1.0 and found["right_to_wrong"]["value"] == 1.0
    assert found["choices_kl"] == {"value": None, "stderr": None, "per_item": [None]}


def test_answers_to_other_items_are_refused():
    with pytest.raises(ValueError, match="t: the dense model answered other items"):
        compare_answers({"t": [item(True, -1.0, -2.0)]}, {"t": []})
