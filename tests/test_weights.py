"""A checkpoint that does not give a model all of its weights is refused, by name."""

import json

import pytest
import torch
from actsparse.models.loading import load_model
from actsparse.models.weights import check_weights
from actsparse.resources.models import fetch_model
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGS, save_tiny_model
from transformers import AutoModelForCausalLM


@pytest.fixture
def llama(tmp_path):
    return save_tiny_model("llama", tmp_path / "llama")


def change(folder, edit):
    """Save a checkpoint again with what `edit` makes of its tensors."""
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path, metadata={"format": "pt"})


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_whole_checkpoints_are_taken(tmp_path, architecture):
    check_weights(save_tiny_model(architecture, tmp_path / architecture))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_wrappers_are_left_out_of_names(llama, tmp_path, capsys, prefix):
    expected = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32).state_dict()
    change(llama, lambda weights: {prefix + name: weight for name, weight in weights.items()})
    check_weights(llama)
    assert "_orig_mod. are left out of the names" in capsys.readouterr().out
    fetch_model(str(llama), tmp_path, tmp_path / "m.json")
    found = load_model(tmp_path / "m.json", "float32", torch.device("cpu")).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_tied_head_and_a_base_model_are_taken(llama):
    change_config(llama, tie_word_embeddings=True)
    change(
        llama,
        lambda weights: {n.removeprefix("model."): w for n, w in weights.items() if n != "lm_head.weight"},
    )
    check_weights(llama)


def test_old_buffers_are_taken(llama):
    change(llama, lambda weights: weights | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    check_weights(llama)


def without_head(folder):
    change(folder, lambda weights: {n: w for n, w in weights.items() if n != "lm_head.weight"})


CHANGES = {
    "another prefix": (
        lambda folder: change(folder, lambda weights: {f"net.{n}": w for n, w in weights.items()}),
        "21 weights of the model are not in its safetensors (first: lm_head.weight, "
        "model.embed_tokens.weight, model.layers.0.input_layernorm.weight); 21 tensors are none of the model's (first: net.lm_head.weight, ",
    ),
    "more layers": (
        lambda folder: change_config(folder, num_hidden_layers=3),
        "9 weights of the model are not in its safetensors (first: model.layers.2.input_layernorm.weight, ",
    ),
    "fewer layers": (
        lambda folder: change_config(folder, num_hidden_layers=1),
        "9 tensors are none of the model's (first: model.layers.1.input_layernorm.weight, ",
    ),
    "no head": (without_head, "1 weight of the model is not in its safetensors (lm_head.weight)"),
    "another shape": (
        lambda folder: change(folder, lambda weights: weights | {"model.norm.weight": torch.ones(3)}),
        "1 weight has another shape than the model's (first: model.norm.weight, (3,) instead of (48,))",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_others_are_refused_in_one_line_when_fetched_and_when_loaded(llama, tmp_path, case):
    edit, message = CHANGES[case]
    edit(llama)
    with pytest.raises(ValueError) as error:
        check_weights(llama)
    assert str(error.value).startswith(f"{llama}: {message}")
    assert "\n" not in str(error.value)
    fetch_model(str(llama), tmp_path, tmp_path / "m.json")
    if case != "another shape":  # transformers itself refuses that
        with pytest.raises(ValueError) as error:
            load_model(tmp_path / "m.json", "float32", torch.device("cpu"))
        assert str(error.value).startswith(f"{llama}: {message}")


def test_a_file_that_is_cut_off_is_named(llama):
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a whole safetensors file"):
        check_weights(llama)


def test_no_manifest_is_written_for_what_the_check_refuses(llama, tmp_path):
    without_head(llama)
    with pytest.raises(ValueError, match=r"not in its safetensors"):
        fetch_model(str(llama), tmp_path, tmp_path / "m.json", check=check_weights)
    assert not (tmp_path / "m.json").exists()
