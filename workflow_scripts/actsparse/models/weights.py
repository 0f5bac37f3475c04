"""Whether a checkpoint gives a model all of its weights, told from the headers of its safetensors files."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from actsparse.jobs.files import read_json
from actsparse.jobs.tensor_files import opened

# What wrappers put into the names of a model's weights: DistributedDataParallel in front of all of them,
# torch.compile in front of whatever was compiled.
WRAPPERS = {r"^(?:module\.)+": "", r"_orig_mod\.": ""}
SHOWN = 3

# What a language model has no use for in the checkpoint of a multimodal one.
OTHER_SENSES = re.compile(r"(^|\.)(vision|visual|audio|speech|image|multi_modal|mm_)\w*\.")


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers reads a model from.

    Raises ValueError, in one line, where there are none, or one is missing.
    """
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise ValueError(
            f"{folder}: no model.safetensors, and no model.safetensors.index.json that lists its parts; "
            "other weights (pickle, GGUF) are not loaded from here"
        )
    shards = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    for shard in shards:
        if not shard.is_file():
            raise ValueError(f"{folder}: {shard.name} is missing, but {index.name} lists it")
    return shards


def stored_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors by name, on the meta device: names, shapes and dtypes, no values.

    Raises ValueError naming a file that is not whole.
    """
    found = {}
    for path in weight_files(folder):
        with opened(path) as stored:
            for name in stored.keys():  # noqa: SIM118 - the file itself is not iterable
                part = stored.get_slice(name)
                found[name] = torch.empty(part.get_shape(), dtype=_dtype(part.get_dtype()), device="meta")
    return found


def wrappers_of(names: Iterable[str]) -> dict[str, str] | None:
    """Return what of the names has to be replaced by what, because a wrapper was saved; None for nothing."""
    wrapped = any(re.search(pattern, name) for name in names for pattern in WRAPPERS)
    return WRAPPERS if wrapped else None


def check_weights(folder: Path, trust_remote_code: bool = False) -> None:
    """Raise ValueError, in one line, unless the checkpoint in `folder` gives its model all weights, no more.

    transformers itself says which tensor becomes which weight, on the meta device; no value is read. Models
    whose weights are stored quantised are not looked at: only loading tells what becomes of them.
    """
    stored = stored_weights(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    if hasattr(config, "quantization_config"):
        return
    if renamed := wrappers_of(stored):
        print(f"{folder}: module. and _orig_mod. are left out of the names of its weights")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its report is of many lines; ours is the one below
    try:
        _, report = type(model).from_pretrained(
            None,
            config=config,
            state_dict=stored,
            key_mapping=renamed,
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
    check_report(str(folder), report)


def check_report(where: str, report: dict[str, Any]) -> None:
    """Raise ValueError, in one line, for what transformers reports to have missed or left over.

    Tensors of a vision or audio tower that a language model does without are allowed, and said.
    """
    other = {name for name in report["unexpected_keys"] if OTHER_SENSES.search(name)}
    if other:
        print(f"{where}: {len(other)} tensors of its vision or audio tower are not loaded")
    wrong = []
    if missing := sorted(report["missing_keys"]):
        wrong.append(
            f"{_count(missing)} of the model {_are(missing)} not in its safetensors ({_some(missing)})"
        )
    if shapes := sorted(report["mismatched_keys"]):
        name, found, expected = shapes[0]
        wrong.append(
            f"{_count(shapes)} {'has' if len(shapes) == 1 else 'have'} another shape than the model's "
            f"(first: {name}, {tuple(found)} instead of {tuple(expected)})"
        )
    if unexpected := sorted(set(report["unexpected_keys"]) - other):
        wrong.append(
            f"{_count(unexpected, 'tensor')} {_are(unexpected)} none of the model's ({_some(unexpected)})"
        )
    if wrong:
        raise ValueError(f"{where}: {'; '.join(wrong)}")


def _dtype(word: str) -> torch.dtype:
    # Only shapes matter here; what torch has no type for is as good as bytes.
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}
    return getattr(torch, names.get(word, "uint8"))


def _count(names: list, what: str = "weight") -> str:
    return f"{len(names)} {what}{'s' * (len(names) > 1)}"


def _are(names: list) -> str:
    return "is" if len(names) == 1 else "are"


def _some(names: list[str]) -> str:
    return f"first: {', '.join(names[:SHOWN])}" if len(names) > 1 else names[0]
