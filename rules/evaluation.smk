# Every experiment of the grid, on every model, by every benchmark: one result JSON each.


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


rule evaluate_perplexity:
    input:
        unpack(sparsity_inputs),
        model="resources/models/{model}.json",
        windows=f"{RESULTS}/windows/{{model}}/perplexity.safetensors",
    output:
        f"{RESULTS}/evaluations/{{model}}/{{experiment}}/perplexity.json",
    params:
        experiment=experiment_params,
        code=lambda w: digest("evaluate_perplexity.py", *STUDY.experiments[w.experiment].modules),
    log:
        f"{RESULTS}/logs/evaluate_perplexity/{{model}}/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_perplexity/{{model}}/{{experiment}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=GPUS,
    message:
        "Perplexity of {wildcards.model} under {wildcards.experiment}"
    script:
        "../workflow_scripts/evaluate_perplexity.py"


rule evaluate_zero_shot:
    input:
        unpack(sparsity_inputs),
        model="resources/models/{model}.json",
        tasks=expand("resources/tasks/{task}", task=CONFIG.get("zero_shot", {}).get("tasks", [])),
    output:
        f"{RESULTS}/evaluations/{{model}}/{{experiment}}/zero_shot.json",
    params:
        experiment=experiment_params,
        zero_shot={key: value for key, value in CONFIG.get("zero_shot", {}).items() if key != "tasks"}
        | {"seed": CONFIG["seed"]},
        code=lambda w: digest("evaluate_zero_shot.py", *STUDY.experiments[w.experiment].modules),
    log:
        f"{RESULTS}/logs/evaluate_zero_shot/{{model}}/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_zero_shot/{{model}}/{{experiment}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=4000,
        runtime=480,
        gpu=GPUS,
    message:
        "Zero-shot tasks of {wildcards.model} under {wildcards.experiment}"
    script:
        "../workflow_scripts/evaluate_zero_shot.py"
