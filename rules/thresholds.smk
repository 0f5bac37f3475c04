# One pass over the calibration text counts activation magnitudes; thresholds of any sparsity follow.


localrules:
    compute_thresholds,


rule measure_histograms:
    input:
        model="resources/models/{model}.json",
        windows=f"{RESULTS}/windows/{{model}}/calibration.safetensors",
    output:
        f"{RESULTS}/histograms/{{model}}.safetensors",
    log:
        f"{RESULTS}/logs/measure_histograms/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_histograms/{{model}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=model_memory,
        runtime=each_attempt(120),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        projections=FFN,
        loading=loading,
        code=digest("measure_histograms.py"),
    message:
        "Counting activation magnitudes of {wildcards.model}"
    script:
        "../workflow_scripts/measure_histograms.py"


rule compute_thresholds:
    input:
        histograms=f"{RESULTS}/histograms/{{model}}.safetensors",
    output:
        f"{RESULTS}/thresholds/{{model}}/{{sparsity}}.json",
    log:
        f"{RESULTS}/logs/compute_thresholds/{{model}}/{{sparsity}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_thresholds/{{model}}/{{sparsity}}.tsv"
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
