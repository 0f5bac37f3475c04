# One pass over the calibration text counts activation magnitudes; thresholds of any sparsity follow.


localrules:
    compute_thresholds,


# What magnitudes are counted of, by the suffix in the names of files: outputs of the FFN (arXiv 2507.14179),
# inputs of all projections (TEAL), or the gate behind its activation function (CATS).
COUNTED = {
    "": {"side": "output", "projections": FFN, "scorer": "magnitude"},
    "-inputs": {"side": "input", "projections": ALL_PROJECTIONS, "scorer": "magnitude"},
    "-cats": {"side": "output", "projections": ["gate_proj"], "scorer": "cats"},
}


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
        code=digest("measure_histograms.py", "actsparse.scorers.cats"),
    message:
        "Counting activation magnitudes of {wildcards.model} ({params.counted[side]}s)"
    script:
        "../workflow_scripts/measure_histograms.py"


rule compute_thresholds:
    input:
        histograms=f"{RESULTS}/histograms/{{model}}{{counted}}.safetensors",
    output:
        f"{RESULTS}/thresholds/{{model}}/{{sparsity}}{{counted}}.json",
    log:
        f"{RESULTS}/logs/compute_thresholds/{{model}}/{{sparsity}}{{counted}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_thresholds/{{model}}/{{sparsity}}{{counted}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=digest("compute_thresholds.py"),
    message:
        "Thresholds of {wildcards.model} at sparsity {wildcards.sparsity}"
    script:
        "../workflow_scripts/compute_thresholds.py"
