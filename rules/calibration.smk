# What calibration text gives to scorers and mitigations: statistics and axes of inputs, trained parameters, and
# weights that are updated while they are pruned.


rule measure_statistics:
    input:
        model=manifest,
        windows=FILES.output("windows", use="calibration"),
    output:
        FILES.output("statistics"),
    log:
        f"{RESULTS}/logs/measure_statistics/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_statistics/{{model}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(lambda shape, dtype, w: memory.statistics(shape, dtype, LENGTH)),
        runtime=each_attempt(120),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        projections=ALL_PROJECTIONS,
        loading=loading,
        pins=pins("lm"),
        code=digest("measure_statistics.py"),
    message:
        "Statistics of the inputs of {wildcards.model} ({resources.mem_mb} MB)"
    script:
        "../workflow_scripts/measure_statistics.py"


rule measure_rotations:
    input:
        model=manifest,
        windows=FILES.output("windows", use="calibration"),
    output:
        FILES.output("rotations"),
    log:
        f"{RESULTS}/logs/measure_rotations/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_rotations/{{model}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(lambda shape, dtype, w: memory.rotations(shape, dtype, LENGTH, WINDOWS)),
        runtime=each_attempt(120),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        projections=ALL_PROJECTIONS,
        loading=loading,
        pins=pins("lm"),
        code=digest("measure_rotations.py"),
    message:
        "Principal axes of the inputs of {wildcards.model} ({resources.mem_mb} MB)"
    script:
        "../workflow_scripts/measure_rotations.py"


rule train_mitigation:
    input:
        unpack(files_to_train),
        model=manifest,
        windows=FILES.output("windows", use="calibration"),
    output:
        parameters=FILES.output("trained_parameters"),
        report=FILES.output("trained_parameters").replace(".safetensors", ".json"),
    log:
        f"{RESULTS}/logs/train_mitigation/{{model}}/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_mitigation/{{model}}/{{experiment}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(lambda shape, dtype, w: memory.training(shape, dtype, LENGTH, WINDOWS)),
        runtime=each_attempt(480),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        scheme=scheme_params,
        scheme_files=lambda w: list(files_to_train(w)),
        training=CONFIG["training"],
        loading=loading,
        pins=pins("lm"),
        code=lambda w: digest("train_mitigation.py", *STUDY.experiments[w.experiment].kind.modules),
    message:
        "Training the mitigation of {wildcards.experiment} for {wildcards.model} ({resources.mem_mb} MB)"
    script:
        "../workflow_scripts/train_mitigation.py"


rule prune_weights:
    input:
        model=manifest,
        windows=FILES.output("windows", use="calibration"),
    output:
        FILES.output("pruned_weights"),
    log:
        f"{RESULTS}/logs/prune_weights/{{model}}/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prune_weights/{{model}}/{{experiment}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(lambda shape, dtype, w: memory.sparsegpt(shape, dtype, LENGTH, WINDOWS, ON_GPU)),
        runtime=each_attempt(480),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        params=lambda w: STUDY.experiments[w.experiment].params,
        loading=loading,
        pins=pins("lm"),
        code=lambda w: digest("prune_weights.py", *STUDY.experiments[w.experiment].kind.modules),
    message:
        "Pruning the weights of {wildcards.model} for {wildcards.experiment} ({resources.mem_mb} MB)"
    script:
        "../workflow_scripts/prune_weights.py"
