"""Sites are found in every architecture, by the names of one vocabulary."""

import pytest
import torch
from actsparse.models.sites import find_sites, parse_layers, published_count
from tiny_models import CONFIGS, LAYERS, load_tiny_model, save_tiny_model, token_windows
from torch import nn
from transformers import AutoModelForCausalLM, Gemma3Config, LlamaConfig, Qwen2Config

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: load_tiny_model(save_tiny_model(name, folder / name)) for name in CONFIGS}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_all_projections_are_found(models, architecture):
    projections = [word for word in ALL if architecture != "opt" or word != "gate_proj"]
    for side in ("input", "output", "weight"):
        sites = find_sites(models[architecture], projections, side)
        fused = architecture == "phi3" and side == "input"
        assert len(sites) == LAYERS * (4 if fused else len(projections))
        assert len({site.name for site in sites}) == len(sites)
        assert all("vision" not in site.name for site in sites)
        for site in sites:
            assert site.weight.shape == (site.out_features, site.module.in_features)


def test_fused_projections_are_split_on_the_output_side(models):
    sites = find_sites(models["phi3"], ["k_proj", "up_proj"], "output", layers="1")
    assert [(site.projection, site.rows) for site in sites] == [
        ("k_proj", slice(48, 72)),
        ("up_proj", slice(96, 192)),
    ]
    assert sites[0].name == "model.layers.1.self_attn.qkv_proj[k_proj]"
    (shared,) = find_sites(models["phi3"], ["q_proj", "k_proj"], "input", layers="1")
    assert (shared.projection, shared.width, shared.rows) == ("qkv_proj", 48, None)


def test_regular_expressions_and_layer_ranges(models):
    sites = find_sites(models["llama"], ["[qkv]_proj"], "input", layers="1-")
    assert [(site.layer, site.projection) for site in sites] == [
        (1, "q_proj"),
        (1, "k_proj"),
        (1, "v_proj"),
    ]
    assert parse_layers("0,2,5-7", 9) == [0, 2, 5, 6, 7]
    for wrong in ("5-9", "3-2", "a", "", "1--2"):
        with pytest.raises(ValueError, match="layers"):
            parse_layers(wrong, 9)


def test_what_does_not_fit_is_told_with_the_layers_there_are(models):
    with pytest.raises(ValueError, match=r"no projection matches gate_proj.*fc1.*self_attn\.k_proj"):
        find_sites(models["opt"], ["gate_proj"], "input")
    with pytest.raises(ValueError, match="no decoder layers found; its linear layers are 0"):
        find_sites(nn.Sequential(nn.Linear(2, 2)), ["q_proj"], "input")


def test_widths_are_those_of_what_flows(models):
    for architecture, model in models.items():
        projections = [word for word in ALL if architecture != "opt" or word != "gate_proj"]
        seen = {}
        sites = find_sites(model, projections, "input")

        def record(name, seen=seen):
            return lambda module, args: seen.update({name: args[0].shape[-1]})

        handles = [site.module.register_forward_pre_hook(record(site.name)) for site in sites]
        with torch.inference_mode():
            model(input_ids=token_windows(1, 8))
        for handle in handles:
            handle.remove()
        assert seen == {site.name: site.width for site in sites}


def _gemma3_4b() -> Gemma3Config:
    return Gemma3Config(
        text_config={
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
        },
        vision_config={
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 896,
            "patch_size": 14,
        },
    )


@pytest.mark.parametrize(
    ("config", "language_model", "published"),
    [
        (lambda: LlamaConfig(), 224, 224),  # the defaults are Llama-2-7B's
        (
            lambda: Qwen2Config(
                vocab_size=152064,
                hidden_size=3584,
                intermediate_size=18944,
                num_hidden_layers=28,
                num_attention_heads=28,
                num_key_value_heads=4,
            ),
            196,
            196,
        ),
        (_gemma3_4b, 238, 319),
    ],
    ids=["Llama-2-7B", "Qwen2.5-7B", "Gemma-3-4B"],
)
def test_replaced_linear_layers_of_the_real_configs(config, language_model, published):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config())
    assert len(find_sites(model, ALL, "input")) == language_model
    assert published_count(model) == published
    assert published_count(model, ["o_proj", "(gate|up)_proj"]) == language_model // 7 * 3
