"""Checks of a config that no schema can make: words that must name something, sizes that must fit."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from actsparse.codebooks import ALGORITHMS, NEED_MAGNITUDES, OPTIONS
from actsparse.jobs.files import read_json
from actsparse.kinds.presets import EVERYTHING, GREEDY_LIMIT
from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.patterns import parse_pattern
from actsparse.methods.scorers import SCORERS
from actsparse.methods.sparsity_table import SparsityTable, read_sparsity_table
from actsparse.registry import lookup
from actsparse.report.tables.declared import known_columns
from actsparse.resources.sources import HubRepo, LocalPath, PackageFile, parse_source
from actsparse.study.combinations import refusal
from actsparse.study.grid import Experiment
from actsparse.study.schema import ConfigError

# A study unpacked from its archive has results, and none of the files they were made from.
UNPACKED = "ro-crate-metadata.json"


def check_references(config: dict[str, Any], experiments: dict[str, Experiment], root: Path) -> None:
    """Raise ConfigError for the first word that names nothing and the first size that does not fit."""
    for family in ("models", "corpora", "tasks"):
        for name, entry in config[family].items():
            _check_source(f"{family}.{name}", entry, root)
    for name, entry in config["models"].items():
        for kind in ("thresholds", "patterns"):
            for sparsity, path in entry[kind].items():
                _check_file(f"models.{name}.{kind}.{sparsity}", path, root)
    for experiment in experiments.values():
        for projection, path in experiment.params.get("centroids", {}).items():
            _check_file(f"experiments.{experiment.slug}.centroids.{projection}", path, root)
    for use in ("calibration", "perplexity"):
        if use in config:
            _check_one_of(f"{use}.corpus", config[use]["corpus"], config["corpora"])
    for task in config.get("zero_shot", {}).get("tasks", []):
        _check_task(task)
    for name, entry in config["tasks"].items():
        _check_task_format(name, entry)
    _check_tables(config, experiments)
    shapes = {name: model_shape(name, entry, root) for name, entry in config["models"].items()}
    for experiment in experiments.values():
        _check_experiment(experiment, config)
        table = _sparsity_table(experiment, root)
        for name, shape in shapes.items():
            if shape:
                _check_sizes(experiment, config, name, shape)
                _check_layers_of_table(experiment, table, name, shape)


def model_shape(name: str, entry: dict[str, Any], root: Path) -> dict[str, int] | None:
    """Return a model's sizes: from its folder if it is there, else as the config states them, else None."""
    source = parse_source(entry["source"])
    folder = root / source.path if isinstance(source, LocalPath) else root / "resources" / "models" / name
    if (folder / "config.json").is_file():
        found = read_json(folder / "config.json")
        found = found.get("text_config", found)
        return {key: value for key, value in found.items() if isinstance(value, int)}
    return entry.get("shape")


def _check_one_of(where: str, word: str, allowed) -> None:
    if word not in allowed:
        raise ConfigError(f"{where}: {word!r} is unknown (allowed: {', '.join(sorted(allowed)) or 'none'})")


def _check_source(where: str, entry: dict[str, Any], root: Path) -> None:
    sources = entry["source"]
    for text in sources.values() if isinstance(sources, dict) else [sources]:
        try:
            source = parse_source(text)
        except ValueError as error:
            raise ConfigError(f"{where}.source: {error}") from None
        missing = isinstance(source, LocalPath) and not (root / source.path).exists()
        if missing and not (root / UNPACKED).exists():
            raise ConfigError(f"{where}.source: no such file or folder: {source.path}")
        if isinstance(source, PackageFile) and "sha256" not in entry:
            raise ConfigError(f"{where}.sha256: missing (required with a pypi:// source)")
        if where.startswith("corpora") and not isinstance(source, HubRepo) and "format" not in entry:
            raise ConfigError(f"{where}.format: missing (allowed: mediawiki, text, jsonl, parquet)")


def _check_file(where: str, path: str, root: Path) -> None:
    if not (root / path).exists():
        raise ConfigError(f"{where}: no such file or folder: {path}")


def _check_task(task: str) -> None:
    package = find_spec("lm_eval")
    if package is None:  # the host has only Snakemake; the fetch job will tell
        return
    folder = Path(package.origin).parent / "tasks"
    if any(folder.glob(f"**/{task}.yaml")) or any(folder.glob(f"**/{task}/")):
        return
    declares = re.compile(rf"^task: *['\"]?{re.escape(task)}['\"]? *$", re.MULTILINE)
    if not any(declares.search(path.read_text(errors="replace")) for path in folder.glob("**/*.yaml")):
        raise ConfigError(f"zero_shot.tasks: {task!r} is unknown (allowed: the tasks of `lm_eval ls tasks`)")


def _check_task_format(name: str, entry: dict[str, Any]) -> None:
    from actsparse.resources.task_formats import FORMATS

    _check_one_of(f"tasks.{name}.format", entry["format"], FORMATS)


def _check_tables(config: dict[str, Any], experiments: dict[str, Experiment]) -> None:
    tasks = config.get("zero_shot", {}).get("tasks", [])
    params = {key for experiment in experiments.values() for key in experiment.params}
    for name, table in config["tables"].items():
        known = known_columns(table["source"], tasks, params)
        for key in ("columns", "where", "order"):
            for column in table[key]:
                _check_one_of(f"tables.{name}.{key}", column, known)


def _check_experiment(experiment: Experiment, config: dict[str, Any]) -> None:
    where, params = f"experiments.{experiment.slug}", experiment.params
    registries = {"scorer": SCORERS, "mitigation": MITIGATIONS, "algorithm": ALGORITHMS}
    for key in registries.keys() & params.keys():
        try:
            lookup(registries[key], params[key], key)
        except ValueError as error:
            raise ConfigError(f"{where}.{key}: {error}") from None
    _check_codebook(experiment, config)
    calibrated = experiment.thresholds is not None or experiment.needs_statistics or experiment.preparation
    if calibrated and "calibration" not in config:
        raise ConfigError(f"calibration: missing (required by {where})")
    _check_training(experiment, config)
    _check_allocation(experiment)
    for word in params.get("projections", []):
        try:
            re.compile(word)
        except re.error as error:
            raise ConfigError(f"{where}.projections: {word!r} is no regular expression ({error})") from None
    word, arguments = parse_pattern(params["pattern"]) if "pattern" in params else (None, ())
    if word == "n_of_m" and arguments[0] > arguments[1]:
        raise ConfigError(f"{where}.pattern: {params['pattern']!r} is not allowed (N must not exceed M)")
    if word is not None:
        side = "weight" if experiment.method == "prune_weights" else "input"
        reason = refusal(side, params["scorer"], word, params.get("mitigation", "none"))
        if reason is not None:
            raise ConfigError(f"{where}: {reason}")
    if params.get("mitigation") == "low_rank" and "rank" not in params:
        raise ConfigError(f"{where}.rank: missing (required by mitigation low_rank)")


def _check_codebook(experiment: Experiment, config: dict[str, Any]) -> None:
    where, params = f"experiments.{experiment.slug}", experiment.params
    for key in OPTIONS.keys() & params.keys():
        if params["algorithm"] not in OPTIONS[key]:
            raise ConfigError(
                f"{where}.{key}: algorithm {params['algorithm']} has no such option "
                f"(allowed algorithms: {', '.join(OPTIONS[key])})"
            )
    if params.get("joint") and not {"gate_proj", "up_proj"} <= set(params["projections"]):
        raise ConfigError(f"{where}.joint: gate_proj and up_proj must both be among the projections")
    if params.get("importance") == "contribution" and params["algorithm"] not in NEED_MAGNITUDES:
        raise ConfigError(
            f"{where}.importance: algorithm {params['algorithm']} weighs no neurons "
            f"(allowed algorithms: {', '.join(NEED_MAGNITUDES)})"
        )
    if params.get("as_published") and experiment.method == "codebook" and "perplexity" not in config:
        raise ConfigError(f"perplexity: missing (required by {where}.as_published, which fits to its text)")
    if "centroids" in params and (missing := set(params["projections"]) - set(params["centroids"])):
        raise ConfigError(f"{where}.centroids: no file for {', '.join(sorted(missing))}")


def _check_training(experiment: Experiment, config: dict[str, Any]) -> None:
    if experiment.preparation != "trained_parameters":
        return
    held_out, sequences = config["training"]["validation_sequences"], config["calibration"]["sequences"]
    if sequences is not None and sequences <= held_out:
        raise ConfigError(
            f"training.validation_sequences: {held_out} is not allowed (must be below the {sequences} "
            f"calibration.sequences, which experiments.{experiment.slug} trains on)"
        )


def _check_allocation(experiment: Experiment) -> None:
    where, params = f"experiments.{experiment.slug}", experiment.params
    if params.get("allocation") != "greedy":
        return
    if params["side"] != "input" or set(params["projections"]) != set(EVERYTHING) or params.get("layers"):
        raise ConfigError(
            f"{where}.allocation: greedy shares sparsity among the inputs of all projections of each layer "
            "(allowed with preset teal)"
        )
    if params["sparsity"] > GREEDY_LIMIT:
        raise ConfigError(
            f"{where}.sparsity: {params['sparsity']} is not allowed (with allocation greedy at most "
            f"{GREEDY_LIMIT})"
        )


def _sparsity_table(experiment: Experiment, root: Path) -> SparsityTable | None:
    """Return the table of sparsities that an experiment prunes by, if it has one."""
    if experiment.sparsities is None:
        return None
    where = f"experiments.{experiment.slug}.pattern"
    _check_file(where, experiment.sparsities, root)
    try:
        table = read_sparsity_table(root / experiment.sparsities)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    # What a fused layer is called depends on the model and on the side; the job checks it.
    fused = {"qkv_proj", "gate_up_proj"} & table.keys()
    for word in experiment.params["projections"]:
        if not fused and not any(re.fullmatch(word, column) for column in table):
            raise ConfigError(f"{where}: {experiment.sparsities} has no column for {word}")
    return table


def _check_layers_of_table(
    experiment: Experiment, table: SparsityTable | None, model: str, shape: dict[str, int]
) -> None:
    if table is None or experiment.params.get("layers"):
        return
    known = next(iter(table.values()))
    for layer in range(shape["num_hidden_layers"]):
        if f"layer_{layer}" not in known:
            raise ConfigError(
                f"experiments.{experiment.slug}.pattern: {experiment.sparsities} has no line for layer "
                f"{layer} of {model}"
            )


def _check_groups(experiment: Experiment, model: str, shape: dict[str, int]) -> None:
    groups = experiment.params["groups"]
    for projection, size in (("gate_proj", "intermediate_size"), ("down_proj", "hidden_size")):
        touched = any(re.fullmatch(word, projection) for word in experiment.params["projections"])
        if touched and shape[size] % groups:
            raise ConfigError(
                f"experiments.{experiment.slug}.groups: {groups} do not divide the {shape[size]} outputs "
                f"of {projection} of {model}"
            )


def _check_sizes(experiment: Experiment, config: dict[str, Any], model: str, shape: dict[str, int]) -> None:
    where, params = f"experiments.{experiment.slug}", experiment.params
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    heads = shape.get("num_attention_heads", 1)
    attention = heads * shape.get("head_dim", hidden // heads)
    widths = {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), hidden),
        "o_proj": attention,
        "down_proj": shape["intermediate_size"],
    }
    word, arguments = parse_pattern(params["pattern"]) if "pattern" in params else (None, ())
    if word == "n_of_m":
        m = arguments[1]
        for projection, width in widths.items():
            touched = any(re.fullmatch(word, projection) for word in params["projections"])
            if touched and width % m:
                raise ConfigError(
                    f"{where}.pattern: {params['pattern']} does not fit {projection} of {model} "
                    f"(its width {width} is not a multiple of {m})"
                )
    if experiment.method == "codebook" and "centroids" not in params:
        _check_groups(experiment, model, shape)
        # All windows are as many as the text has, whose length is not known yet.
        use = "perplexity" if params["as_published"] else "calibration"
        text, most = config[use], config["codebooks"]["patterns"]
        if text["sequences"] is not None:
            most = min(most, text["sequences"] * text["sequence_length"] * layers)
        most = most // layers if params["scope"] == "per_layer" else most
        if params["clusters"] > most:
            raise ConfigError(
                f"{where}.clusters: {params['clusters']} is more than the {most} patterns that {model} "
                f"gives to fit on (see codebooks.patterns and {use}.sequences)"
            )
