# What the dense model says to the text and the items on which experiments are compared with it: once for each
# model.


rule predict_text:
    input:
        model=manifest,
        windows=FILES.output("windows"),
    output:
        FILES.output("predictions"),
    log:
        f"{RESULTS}/logs/predict_text/{{model}}/{{use}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_text/{{model}}/{{use}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(predictions_memory),
        runtime=each_attempt(240),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        loading=loading,
        pins=pins("lm"),
        code=digest("predict_text.py"),
    message:
        "Predictions of dense {wildcards.model} ({resources.mem_mb} MB)"
    script:
        "../workflow_scripts/predict_text.py"


rule answer_items:
    input:
        model=manifest,
        tasks=lambda w: files_of(STUDY.benchmarks[w.use].reads(CONFIG), w.model)["tasks"],
    output:
        FILES.output("answers"),
    log:
        f"{RESULTS}/logs/answer_items/{{model}}/{{use}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/answer_items/{{model}}/{{use}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(answers_memory),
        runtime=each_attempt(480),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        options=lambda w: STUDY.benchmarks[w.use].options(CONFIG, w.model),
        loading=loading,
        pins=pins("lm"),
        code=digest("answer_items.py"),
    message:
        "Answers of dense {wildcards.model} ({resources.mem_mb} MB)"
    script:
        "../workflow_scripts/answer_items.py"
