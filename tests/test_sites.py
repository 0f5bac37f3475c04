"""Sites are found in every architecture, by the names of one vocabulary."""

import pytest
import torch
from actsparse.models.sites import covered_macs, find_sites, parse_layers, published_count
from tiny_models import CONFIGS, INTERLEAVED, LAYERS, UNGATED, load_tiny_model, save_tiny_model, token_windows
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: load_tiny_model(save_tiny_model(name, folder / name)) for name in CONFIGS}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_all_projections_are_found(models, architecture):
    projections = [word for word in ALL if architecture not in UNGATED or word != "gate_proj"]
    for side in ("input", "weight") if architecture in INTERLEAVED else ("input", "output", "weight"):
        sites = find_sites(models[architecture], projections, side)
        fused = architecture == "phi3" and side == "input"
        kinds = 4 if fused or architecture in INTERLEAVED else len(projections)
        assert len(sites) == LAYERS * kinds
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
        projections = [word for word in ALL if architecture not in UNGATED or word != "gate_proj"]
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


@pytest.mark.parametrize("architecture", sorted(INTERLEAVED))
def test_interleaved_projections_are_not_told_apart_as_outputs(models, architecture):
    message = r"outputs of q_proj, k_proj, v_proj are mixed in query_key_value.*its linear layers are"
    with pytest.raises(ValueError, match=message):
        find_sites(models[architecture], ["k_proj"], "output")
    with pytest.raises(ValueError, match="weights of q_proj"):
        find_sites(models[architecture], ["q_proj", "o_proj"], "weight")
    (site,) = find_sites(models[architecture], ["query_key_value"], "output", layers="0")
    assert (site.projection, site.rows) == ("query_key_value", None)


def _empty(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def test_transposed_layers_are_refused():
    model = _empty(GPT2Config(n_embd=48, n_layer=2, n_head=4))
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel: its layers are Conv1D.*h\.\*\.attn\.c_attn"):
        find_sites(model, ["up_proj"], "input")


EXPERTS = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
ROUTED = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    "config",
    [
        MixtralConfig(**EXPERTS, intermediate_size=32, num_local_experts=4),
        Qwen2MoeConfig(**EXPERTS, **ROUTED, intermediate_size=32, shared_expert_intermediate_size=32),
        Qwen3MoeConfig(**EXPERTS, **ROUTED, intermediate_size=32, head_dim=12, mlp_only_layers=[0]),
    ],
    ids=lambda config: config.model_type,
)
def test_experts_are_refused_and_attention_beside_them_is_not(config):
    model = _empty(config)
    for word in ("up_proj", ".*_proj"):
        with pytest.raises(ValueError, match=r"its experts \(such as .*experts.*\) are no linear layers"):
            find_sites(model, [word], "input")
    assert len(find_sites(model, ["q_proj", "o_proj"], "input")) == 4


def test_covered_multiply_adds(models):
    # Of a layer of this Llama: q and o are 48 x 32, k and v 48 x 16, gate, up and down 48 x 96.
    layer = 2 * 48 * 32 + 2 * 48 * 16 + 3 * 48 * 96
    model = models["llama"]
    for projections, layers, expected in (
        (ALL, None, 1.0),
        (["q_proj"], None, 48 * 32 / layer),
        (["down_proj"], "1", 48 * 96 / (2 * layer)),
    ):
        assert covered_macs(model, find_sites(model, projections, "input", layers)) == pytest.approx(expected)
    # q of the 3 * 48 outputs of Falcon-like fused layers cannot be chosen; of Phi-3's it can.
    phi = 48 * (48 + 2 * 24) + 48 * 48 + 3 * 48 * 96
    assert covered_macs(models["phi3"], find_sites(models["phi3"], ["k_proj"], "output")) == pytest.approx(
        48 * 24 / phi
    )
    assert covered_macs(model, []) == 0.0
    # A token goes through 2 of 4 experts, each of three matrices of 48 x 32.
    mixtral = _empty(
        MixtralConfig(**EXPERTS, intermediate_size=32, num_local_experts=4, num_experts_per_tok=2)
    )
    attention = 2 * 48 * 48 + 2 * 48 * 24
    gates = sum(p.numel() for n, p in mixtral.model.layers[0].named_parameters() if n.endswith("gate.weight"))
    assert gates in (0, 4 * 48)
    linear = sum(m.weight.numel() for m in mixtral.model.layers[0].modules() if isinstance(m, nn.Linear))
    assert covered_macs(mixtral, find_sites(mixtral, ["q_proj"], "input")) == pytest.approx(
        48 * 48 / (linear + 2 * 3 * 48 * 32)
    )
    assert linear >= attention
