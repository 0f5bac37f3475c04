"""The intermediate files of a study: name, path, the rule that makes each, and what it is."""

from dataclasses import dataclass
from typing import Any

from actsparse.jobs.files import digest_of


@dataclass(frozen=True)
class Artifact:
    """A kind of file of a study.

    path: below the study's results, or from the folder of the run where it starts with "resources/"; {model}
        and {name} stand for the model and for which one of the model's it is, {origin} for `origin` of what a
        resource is fetched from, so that studies which give one name to two sources do not undo each other.
    rules: the rules that make it, by name.
    what: what is in it, for the page of file formats.
    name: the wildcards that its rule has in place of {name}.
    given: the key of a model in the config under which a user may give such a file, by name.
    folder: whether it is one.
    """

    path: str
    rules: tuple[str, ...]
    what: str
    name: str = "{name}"
    given: str | None = None
    folder: bool = False


@dataclass(frozen=True)
class Need:
    """An artifact that is needed: which one of a model's, and what its rule has to know."""

    artifact: str
    name: str = ""
    spec: Any = None


# In results/<study>/ of a study that was restored from its archive.
METADATA = "ro-crate-metadata.json"

ARTIFACTS = {
    "model": Artifact(
        "resources/models/{model}-{origin}.json",
        ("fetch_model",),
        "manifest of a model: its folder, each file with its size and SHA-256, and a digest of all",
    ),
    "corpus": Artifact(
        "resources/corpora/{name}.parquet",
        ("fetch_corpus",),
        "the texts of a split of a corpus, one document a row",
        name="{corpus}-{origin}/{split}",
    ),
    "task": Artifact(
        "resources/tasks/{name}",
        ("fetch_task",),
        "the items of an lm_eval task, and `task.json`, which says where they come from",
        name="{provider}/{task}-{origin}",
        folder=True,
    ),
    "windows": Artifact(
        "windows/{model}/{name}.safetensors",
        ("make_windows",),
        "token windows of the calibration and perplexity texts, int32 (windows, tokens)",
        name="{use}",
    ),
    "histograms": Artifact(
        "histograms/{model}{name}.safetensors",
        ("measure_histograms",),
        "`{projection}`: int64 (layers, bins), counts of abs(activation); bins are described in "
        "`actsparse/calibration/histograms.py`",
        name="{counted}",
    ),
    "allocation": Artifact(
        "allocations/{model}.json",
        ("search_allocation",),
        "what TEAL's search found: `{layer_<i>: [{mean, q_proj, ...}, ...]}`, the sparsity of each "
        "projection and their mean, weighted by size, after each step",
    ),
    "thresholds": Artifact(
        "thresholds/{model}/{name}.json",
        ("compute_thresholds",),
        "`{projection: {layer_<i>: magnitude}}`, the layout of the published files",
        name="{sparsity}{counted}{searched}",
        given="thresholds",
    ),
    "patterns": Artifact(
        "patterns/{model}/{name}",
        ("extract_patterns",),
        "a pattern store, of the dense model or with its thresholds at work, with magnitudes or what "
        "contributions are made of; see below",
        name="{sparsity}{of}{importance}{text}",
        given="patterns",
        folder=True,
    ),
    "active_neurons": Artifact(
        "active_neurons/{model}/{name}.json",
        ("summarise_patterns",),
        "for which part of the tokens neurons are active: quantiles over the neurons of each layer",
        name="{sparsity}",
    ),
    "codebooks": Artifact(
        "codebooks/{model}/{name}.safetensors",
        ("fit_codebook", "import_centroids"),
        "packed centroids of each projection, see docs/codebooks.md",
        name="{codebook}",
    ),
    "routers": Artifact(
        "routers/{model}/{name}.safetensors",
        ("train_routers",),
        "`{projection}.layer_<i>`: the maps that predict centroids from hidden states",
        name="{router}",
    ),
    "centroids": Artifact(
        "exports/{model}/{name}",
        ("export_centroids",),
        "centroids as the artifact's `.pt` files, made when asked for by name",
        name="{codebook}",
        folder=True,
    ),
    "statistics": Artifact(
        "statistics/{model}.safetensors",
        ("measure_statistics",),
        "`<layer>/norm`, `/maximum`, `/centre`: of each input channel over the calibration text, float32",
    ),
    "rotations": Artifact(
        "rotations/{model}.safetensors",
        ("measure_rotations",),
        "`<block>/axes`: eigenvectors of the second moment of what a block reads, float32 (d, d), the "
        "strongest first",
    ),
    "trained_parameters": Artifact(
        "trained_parameters/{model}/{name}.safetensors",
        ("train_mitigation",),
        "`<layer>/<parameter>`: what a mitigation learned, float32; beside it, in JSON, the error of each "
        "site before and after",
        name="{experiment}",
    ),
    "pruned_weights": Artifact(
        "pruned_weights/{model}/{name}.safetensors",
        ("prune_weights",),  # the rule of that name
        "`<layer>/weight`: weights that SparseGPT pruned and updated",
        name="{experiment}",
    ),
    "predictions": Artifact(
        "predictions/{model}/{name}.safetensors",
        ("predict_text",),
        "of the dense model, for each token of a text: `tokens`, the 64 most probable next ones, `logs`, "
        "their log-probabilities and that of all others together, `following`, that of the one that follows",
        name="{use}",
    ),
    "answers": Artifact(
        "answers/{model}/{name}.json",
        ("answer_items",),
        "of the dense model, for each item of each task: log-likelihoods of its choices, and whether "
        "it is right",
        name="{use}",
    ),
    "evaluation": Artifact(
        "evaluations/{model}/{name}.json",
        ("evaluate",),
        "one result, see below",
        name="{experiment}/{benchmark}",
    ),
    "table": Artifact(
        "tables/{name}",
        ("collate_tables", "compare_published"),
        "tables; CSV has all digits, Markdown, LaTeX and HTML are rounded; same rows in each",
        name="{table}.{suffix}",
    ),
    "figure": Artifact(
        "figures/{name}",
        ("draw_figures",),
        "figures in SVG and PDF; study, commits and experiments are in their metadata",
        name="{figure}.{suffix}",
    ),
    "provenance": Artifact(
        "provenance.{name}",
        ("describe_results",),
        "each result file with SHA-256, commit, device and versions, as JSON and as a page",
        name="{suffix}",
    ),
    "config": Artifact(
        "config.{name}",
        ("describe_results",),
        "the config, defaults filled in, as YAML and as a page",
        name="{suffix}",
    ),
}


def origin(entry: dict[str, Any]) -> str:
    """Return eight hex digits that change with what an entry of models, corpora or tasks is fetched from."""
    given = {artifact.given for artifact in ARTIFACTS.values()}
    return digest_of({key: value for key, value in entry.items() if key not in {"dtype", *given}})[:8]


class Places:
    """Where the artifacts of a study lie, from its validated config."""

    def __init__(self, config: dict[str, Any]):
        self.models, self.results = config["models"], f"results/{config['study']}"

    def output(self, artifact: str, **filled: str) -> str:
        """Return the path that a rule makes, its wildcards in braces but for those that are `filled`."""
        known = ARTIFACTS[artifact]
        path = self._below(known.path.replace("{name}", known.name))
        for wildcard, value in filled.items():
            path = path.replace(f"{{{wildcard}}}", value)
        return path

    def path(self, artifact: str, model: str = "", name: str = "") -> str:
        """Return the path of one artifact of a model: what the user gave, or what a rule makes."""
        known = ARTIFACTS[artifact]
        if known.given and name in self.models[model][known.given]:
            return self.models[model][known.given][name]
        made_from = origin(self.models[model]) if "{origin}" in known.path else ""
        return self._below(known.path.format(model=model, name=name, origin=made_from))

    def is_given(self, artifact: str, model: str, name: str) -> bool:
        """Tell whether the user gave an artifact."""
        known = ARTIFACTS[artifact]
        return known.given is not None and name in self.models[model][known.given]

    def _below(self, path: str) -> str:
        return path if path.startswith("resources/") else f"{self.results}/{path}"
