"""Load a fetched model and its tokenizer, without any network."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from actsparse.jobs.files import read_json
from actsparse.models.sizes import sizes_of
from actsparse.models.weights import check_report, stored_weights, wrappers_of
from actsparse.resources.models import verify_model


def load_model(
    manifest: str | Path, dtype: str, device: torch.device, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Return the model of a manifest in `dtype`, in evaluation mode on `device`.

    A device without an index ("cuda") stands for all visible GPUs: with several, accelerate spreads the
    layers over them. Only safetensors are read. Raises ValueError when a file of the manifest is missing or
    has another size, when the files do not give the model all of its weights, and when the GPUs are too few
    for it.
    """
    folder = verify_model(manifest)["path"]
    spread = device.type == "cuda" and device.index is None and torch.cuda.device_count() > 1
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        device_map="balanced" if spread else device,
        key_mapping=wrappers_of(stored_weights(Path(folder))),
        output_loading_info=True,
    )
    check_report(str(folder), report)
    # What found no room waits elsewhere for its turn; it could neither be pruned nor ranked by.
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError(f"{manifest}: the model does not fit on the GPUs of this job (gpus_per_job)")
    return model.eval().requires_grad_(False)


def load_tokenizer(manifest: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a manifest."""
    folder = verify_model(manifest)["path"]
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)


def check_shape(folder: str | Path, shape: dict[str, int]) -> None:
    """Raise ValueError when a fetched model's config differs from the sizes that the study states."""
    sizes = sizes_of(read_json(Path(folder) / "config.json"))
    for key, stated in shape.items():
        found = sizes.get(key)
        if found != stated:
            raise ValueError(f"{folder}: the config says {key}: {stated}, but the model has {found}")
