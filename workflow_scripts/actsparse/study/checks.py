"""Checks of a config that no schema can make: words that must name something, sizes that must fit."""

import json
import re
from pathlib import Path
from typing import Any

from actsparse.artifacts import ARTIFACTS, origin
from actsparse.benchmarks import BENCHMARKS
from actsparse.codebooks import ALGORITHMS
from actsparse.errors import ConfigError, check_one_of
from actsparse.jobs.files import read_json
from actsparse.kinds.keys import FEED_FORWARD
from actsparse.kinds.kind import require_file
from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.rotations import ROTATIONS
from actsparse.methods.scorers import SCORERS
from actsparse.models.projections import KNOWN, PUBLISHED_PROJECTIONS
from actsparse.models.sizes import REQUIRED, expert_count, has_gate, sizes_of, text_config
from actsparse.resources.item_checks import check_columns
from actsparse.resources.sources import (
    REPO,
    SPLITS_OF_A_FILE,
    HubRepo,
    LocalPath,
    Packaged,
    Source,
    divided,
    each_written,
    parse_source,
)
from actsparse.resources.task_formats import FORMATS, READS
from actsparse.resources.task_index import definition, definition_file
from actsparse.resources.text_files import read_lines, unpacked_suffix
from actsparse.study.grid import Experiment
from actsparse.study.tables import allowed_columns

# What the words under these keys of an experiment stand for.
FAMILIES = {"scorer": SCORERS, "mitigation": MITIGATIONS, "rotation": ROTATIONS, "algorithm": ALGORITHMS}
# Formats of texts that have no columns.
WITHOUT_COLUMNS = ("mediawiki", "text", "lines")


def check_references(config: dict[str, Any], experiments: dict[str, Experiment], root: Path) -> None:
    """Raise ConfigError for the first word that names nothing and the first size that does not fit."""
    for family in ("models", "corpora", "tasks"):
        for name, entry in config[family].items():
            _check_source(f"{family}.{name}", entry, config, root)
    for name, entry in config["models"].items():
        for given in {artifact.given for artifact in ARTIFACTS.values()} - {None}:
            for key, path in entry[given].items():
                require_file(f"models.{name}.{given}.{key}", path, config, root)
    _check_texts(config)
    for word, benchmark in BENCHMARKS.items():
        if word in config:
            benchmark.check(config)
    for name, entry in config["tasks"].items():
        _check_task(name, entry, root)
    _check_tables(config, experiments)
    _check_compared(config, experiments)
    shapes = {name: model_shape(name, entry, root) for name, entry in config["models"].items()}
    configs = {name: model_config(name, entry, root) for name, entry in config["models"].items()}
    _check_windows(config, shapes)
    for experiment in experiments.values():
        where = f"experiments.{experiment.slug}"
        _check_words(experiment)
        for key, why in experiment.kind.ignores().items():
            if key in experiment.given:
                raise ConfigError(f"{where}.{key}: would be ignored ({why})")
        experiment.kind.check(where, config, root)
        for name, shape in shapes.items():
            _check_feed_forward(where, experiment, name, configs[name])
            if shape:
                experiment.kind.check_sizes(where, config, name, shape, root)


def model_shape(name: str, entry: dict[str, Any], root: Path) -> dict[str, int] | None:
    """Return a model's sizes: from its folder if it is there, else as the config states them, else None."""
    folder = _model_folder(name, entry, root)
    if (folder / "config.json").is_file():
        sizes = sizes_of(read_json(folder / "config.json"))
        return sizes if sizes.keys() >= set(REQUIRED) else entry.get("shape")
    return entry.get("shape")


def model_config(name: str, entry: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return what a model's config.json says; empty where it is not there yet."""
    path = _model_folder(name, entry, root) / "config.json"
    return read_json(path) if path.is_file() else {}


def _model_folder(name: str, entry: dict[str, Any], root: Path) -> Path:
    source = parse_source(entry["source"])
    if isinstance(source, LocalPath):
        return root / source.path
    return (root / ARTIFACTS["model"].path.format(model=name, origin=origin(entry))).with_suffix("")


def _check_feed_forward(where: str, experiment: Experiment, model: str, config: dict[str, Any]) -> None:
    """Raise ConfigError for projections of a feed-forward network that a model does not have as such."""
    if "projections" not in experiment.params:
        return
    named = [word for word in FEED_FORWARD if experiment.kind.touches(word)]
    if named and (experts := expert_count(config)):
        raise ConfigError(
            f"{where}.projections: {', '.join(named)} of {model} are in {experts} experts, which are no "
            "linear layers and cannot be pruned (allowed: projections of the attention)"
        )
    if not has_gate(config) and "gate_proj" in experiment.params["projections"]:
        raise ConfigError(
            f"{where}.projections: {model} ({text_config(config)['model_type']}) has no gate_proj "
            "(allowed: q_proj, k_proj, v_proj, o_proj, up_proj, down_proj)"
        )


def _check_source(where: str, entry: dict[str, Any], config: dict[str, Any], root: Path) -> None:
    sources = entry["source"]
    for text in each_written(sources):
        try:
            source = parse_source(text)
        except ValueError as error:
            raise ConfigError(f"{where}.source: {error}") from None
        if isinstance(source, LocalPath):
            hint = f" (on the hub: hf://{text})" if REPO.fullmatch(text) else ""
            require_file(f"{where}.source", source.path, config, root, hint)
        if where.startswith("models") and isinstance(source, LocalPath) and (root / source.path).is_file():
            raise ConfigError(
                f"{where}.source: {source.path} is a file (a model is a folder with config.json and "
                "safetensors; GGUF is read from pypi:// packages only)"
            )
        for part in source.parts if isinstance(source, Packaged) else ():
            if re.search(r"-\d{5}-of-\d{5}\.gguf$", part.member):
                raise ConfigError(
                    f"{where}.source: {part.member} is one of several parts, each a GGUF file (allowed: a "
                    "whole file, or a list of the parts that it was cut into)"
                )
        if where.startswith("tasks") and isinstance(source, HubRepo) and entry["format"] != "hub":
            raise ConfigError(f"{where}.format: would be ignored (items from the hub are as they are: hub)")
        if isinstance(source, Packaged) and "sha256" not in entry:
            raise ConfigError(f"{where}.sha256: missing (required with a pypi:// source)")
        elif "sha256" in entry and not _is_one_file(source, root):
            raise ConfigError(f"{where}.sha256: would be ignored (it is of a source that is one file)")
        if where.startswith("corpora") and not isinstance(source, HubRepo) and "format" not in entry:
            raise ConfigError(f"{where}.format: missing (allowed: mediawiki, text, lines, jsonl, parquet)")
    if isinstance(sources, dict) and "sha256" in entry:
        raise ConfigError(f"{where}.sha256: would be ignored (it is of a source that is one file)")
    if where.startswith("corpora"):
        _check_corpus_keys(where, entry)


def _is_one_file(source: Source, root: Path) -> bool:
    return isinstance(source, Packaged) or (
        isinstance(source, LocalPath) and not (root / source.path).is_dir()
    )


def _check_corpus_keys(where: str, entry: dict[str, Any]) -> None:
    """Raise ConfigError for what a corpus's source or format does not read."""
    sources = entry["source"]
    of_hub = isinstance(sources, str) and isinstance(parse_source(sources), HubRepo)
    if of_hub and "format" in entry:
        raise ConfigError(f"{where}.format: would be ignored (data sets of the hub say it themselves)")
    if not of_hub and "name" in entry:
        raise ConfigError(f"{where}.name: would be ignored (it is a configuration of a data set of the hub)")
    if entry.get("format") in WITHOUT_COLUMNS and entry["text_column"] != "text":
        raise ConfigError(f"{where}.text_column: would be ignored (format {entry['format']} has no columns)")


def _check_texts(config: dict[str, Any]) -> None:
    """Raise ConfigError for a corpus that the study does not have, or a split that the corpus has not."""
    for use in ("calibration", *BENCHMARKS):
        if "corpus" not in config.get(use, {}):
            continue
        corpus, split = config[use]["corpus"], config[use]["split"]
        check_one_of(f"{use}.corpus", corpus, config["corpora"])
        entry = config["corpora"][corpus]
        if isinstance(entry["source"], dict):
            check_one_of(f"{use}.split", split, entry["source"])
        elif divided(entry["source"]):
            lines = entry["format"] == "lines"  # which make no sense one by one
            check_one_of(f"{use}.split", split, ["all"] if lines else SPLITS_OF_A_FILE)


def _check_windows(config: dict[str, Any], shapes: dict[str, dict[str, int] | None]) -> None:
    """Raise ConfigError for windows that are longer than a model whose sizes are known was made for."""
    for use in ("calibration", *BENCHMARKS):
        length = config.get(use, {}).get("sequence_length", 0)
        for name, shape in shapes.items():
            most = (shape or {}).get("max_position_embeddings", length)
            if length > most:
                raise ConfigError(
                    f"{use}.sequence_length: windows of {length} tokens are longer than the {most} that "
                    f"{name} takes (max_position_embeddings)"
                )


def _check_task(name: str, entry: dict[str, Any], root: Path) -> None:
    """Raise ConfigError for an unknown format, and where the first item of a local file lacks a column.

    All items are checked when they are fetched.
    """
    check_one_of(f"tasks.{name}.format", entry["format"], FORMATS)
    source = parse_source(entry["source"])
    path = root / source.path if isinstance(source, LocalPath) else Path()
    if unpacked_suffix(path) != ".jsonl" or not path.is_file():
        return
    try:
        row = json.loads(next(line for line in read_lines(path) if line.strip()))
        missing = [column for column in READS[entry["format"]] if column not in row]
        if missing:
            raise ValueError(f"{path.name}: no column {missing[0]!r}; it has {', '.join(row)}")
        if entry["format"] == "hub" and (file := definition_file(name)):
            check_columns(definition(file), row, path.name)
    except StopIteration:
        raise ConfigError(f"tasks.{name}.source: {path.name}: holds no items") from None
    except ValueError as error:
        raise ConfigError(f"tasks.{name}.source: {error}") from None


def _check_tables(config: dict[str, Any], experiments: dict[str, Experiment]) -> None:
    params = {key for experiment in experiments.values() for key in experiment.params}
    for name, table in config["tables"].items():
        known = allowed_columns(table["source"], config, params)
        for key in ("columns", "where", "order"):
            for column in table[key]:
                check_one_of(f"tables.{name}.{key}", column, known)


def _check_compared(config: dict[str, Any], experiments: dict[str, Experiment]) -> None:
    """Raise ConfigError for a reference that is no experiment, or the experiment itself."""
    if "reference" in config:
        check_one_of("reference", config["reference"], experiments)
    for slug, experiment in experiments.items():
        where, others = f"experiments.{slug}.reference", experiments.keys() - {slug}
        if experiment.reference == slug:
            raise ConfigError(f"{where}: {slug!r} is itself (allowed: {', '.join(sorted(others)) or 'none'})")
        if experiment.reference is not None:
            check_one_of(where, experiment.reference, others)


def _check_words(experiment: Experiment) -> None:
    """Raise ConfigError for words that name no scorer, mitigation or algorithm, or no projection."""
    where, params = f"experiments.{experiment.slug}", experiment.params
    for key in FAMILIES.keys() & params.keys():
        try:
            FAMILIES[key][params[key]]
        except ValueError as error:
            raise ConfigError(f"{where}.{key}: {error}") from None
    for word in params.get("projections", []):
        try:
            _check_projection(word)
        except re.error as error:
            raise ConfigError(f"{where}.projections: {word!r} is no regular expression ({error})") from None
        except ValueError as error:
            raise ConfigError(f"{where}.projections: {error}") from None


def _check_projection(word: str) -> None:
    """Raise ValueError for a mere part of known names; names that nobody knows may be a model's own."""
    pattern = re.compile(word)
    if any(map(pattern.fullmatch, KNOWN)):
        return
    if parts := [name for name in PUBLISHED_PROJECTIONS if pattern.search(name)]:
        raise ValueError(f"{word!r} matches no projection whole (did you mean {' or '.join(parts)}?)")
