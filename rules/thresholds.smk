# One pass over the calibration text counts activation magnitudes; thresholds of any sparsity follow. TEAL's
# search, where an experiment wants it, gives each projection of a layer a sparsity of its own.


localrules:
    compute_thresholds,


# What magnitudes are counted of, by the suffix in the names of files: outputs of the FFN (arXiv 2507.14179),
# inputs of all projections (TEAL), or the gate behind its activation function (CATS).
COUNTED = {
    "": {"side": "output", "projections": FFN, "scorer": "magnitude"},
    "-inputs": {"side": "input", "projections": ALL_PROJECTIONS, "scorer": "magnitude"},
    "-cats": {"side": "output", "projections": ["gate_proj"], "scorer": "cats"},
}


# A search passes all sparsities up to the highest that some experiment asks for.
HIGHEST_GREEDY = max(
    [e.params["sparsity"] for e in STUDY.experiments.values() if e.params.get("allocation") == "greedy"],
    default=0,
)


rule measure_histograms:
    input:
        model="resources/models/{model}.json",
        windows=f"{RESULTS}/windows/{{model}}/calibration.safetensors",
    output:
        f"{RESULTS}/histograms/{{model}}{{counted}}.safetensors",
    log:
        f"{RESULTS}/logs/measure_histograms/{{model}}{{counted}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_histograms/{{model}}{{counted}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=model_memory,
        runtime=each_attempt(120),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        counted=lambda w: COUNTED[w.counted],
        loading=loading,
        code=digest("measure_histograms.py", "actsparse.methods.scorers.cats"),
    message:
        "Counting activation magnitudes of {wildcards.model} ({params.counted[side]}s)"
    script:
        "../workflow_scripts/measure_histograms.py"


rule search_allocation:
    input:
        model="resources/models/{model}.json",
        windows=f"{RESULTS}/windows/{{model}}/calibration.safetensors",
        histograms=f"{RESULTS}/histograms/{{model}}-inputs.safetensors",
    output:
        f"{RESULTS}/allocations/{{model}}.json",
    log:
        f"{RESULTS}/logs/search_allocation/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/search_allocation/{{model}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=model_memory,
        runtime=each_attempt(480),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        search=CONFIG["allocation"] | {"until": HIGHEST_GREEDY},
        loading=loading,
        code=digest("search_allocation.py"),
    message:
        "Greedy search for the sparsity of each projection of {wildcards.model}"
    script:
        "../workflow_scripts/search_allocation.py"


rule compute_thresholds:
    input:
        unpack(lambda w: {"allocation": f"{RESULTS}/allocations/{w.model}.json"} if w.searched else {}),
        histograms=f"{RESULTS}/histograms/{{model}}{{counted}}.safetensors",
    output:
        f"{RESULTS}/thresholds/{{model}}/{{sparsity}}{{counted}}{{searched}}.json",
    log:
        f"{RESULTS}/logs/compute_thresholds/{{model}}/{{sparsity}}{{counted}}{{searched}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_thresholds/{{model}}/{{sparsity}}{{counted}}{{searched}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=lambda w: digest("compute_thresholds.py", *(["actsparse.calibration.greedy_search"] if w.searched else [])),
    message:
        "Thresholds of {wildcards.model} at sparsity {wildcards.sparsity}"
    script:
        "../workflow_scripts/compute_thresholds.py"
