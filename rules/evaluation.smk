# Every experiment of the grid, on every model, by every benchmark: one result JSON each.


rule evaluate_perplexity:
    input:
        unpack(scheme_files),
        model="resources/models/{model}.json",
        windows=f"{RESULTS}/windows/{{model}}/perplexity.safetensors",
    output:
        f"{RESULTS}/evaluations/{{model}}/{{experiment}}/perplexity.json",
    log:
        f"{RESULTS}/logs/evaluate_perplexity/{{model}}/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_perplexity/{{model}}/{{experiment}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=model_memory,
        runtime=each_attempt(240),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        experiment=experiment_params,
        scheme_files=lambda w: list(scheme_files(w)),
        windows=lambda w: STUDY.experiments[w.experiment].perplexity_windows,
        code=lambda w: digest("evaluate_perplexity.py", *STUDY.experiments[w.experiment].modules),
    message:
        "Perplexity of {wildcards.model} under {wildcards.experiment} ({resources.mem_mb} MB)"
    script:
        "../workflow_scripts/evaluate_perplexity.py"


rule evaluate_zero_shot:
    input:
        unpack(scheme_files),
        model="resources/models/{model}.json",
        tasks=[task_folder(task) for task in CONFIG.get("zero_shot", {}).get("tasks", [])],
    output:
        f"{RESULTS}/evaluations/{{model}}/{{experiment}}/zero_shot.json",
    log:
        f"{RESULTS}/logs/evaluate_zero_shot/{{model}}/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_zero_shot/{{model}}/{{experiment}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=model_memory,
        runtime=each_attempt(480),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        experiment=experiment_params,
        scheme_files=lambda w: list(scheme_files(w)),
        zero_shot=zero_shot_params,
        code=lambda w: digest("evaluate_zero_shot.py", *STUDY.experiments[w.experiment].modules),
    message:
        "Zero-shot tasks of {wildcards.model} under {wildcards.experiment} ({resources.mem_mb} MB)"
    script:
        "../workflow_scripts/evaluate_zero_shot.py"
