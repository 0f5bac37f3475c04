# A second pass applies the thresholds and stores which neurons are active, one bit each.


rule extract_patterns:
    input:
        model="resources/models/{model}.json",
        windows=f"{RESULTS}/windows/{{model}}/calibration.safetensors",
        thresholds=lambda w: thresholds_file(w.model, w.sparsity),
    output:
        directory(f"{RESULTS}/patterns/{{model}}/{{sparsity}}"),
    log:
        f"{RESULTS}/logs/extract_patterns/{{model}}/{{sparsity}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_patterns/{{model}}/{{sparsity}}.tsv"
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
        patterns=CONFIG["codebooks"]["patterns"],
        magnitudes=lambda w: stored_magnitudes(w.sparsity),
        loading=loading,
        code=digest("extract_patterns.py"),
    message:
        "Extracting activation patterns of {wildcards.model} at sparsity {wildcards.sparsity}"
    script:
        "../workflow_scripts/extract_patterns.py"
