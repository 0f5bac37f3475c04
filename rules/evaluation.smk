# Every experiment of the grid, on every model, by every benchmark: one result JSON each.


rule evaluate:
    input:
        unpack(scheme_files),
        unpack(benchmark_files),
        model=manifest,
    output:
        FILES.output("evaluation"),
    log:
        f"{RESULTS}/logs/evaluate_{{benchmark}}/{{model}}/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_{{benchmark}}/{{model}}/{{experiment}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: lambda w: TIMING_THREADS if STUDY.benchmarks[w.benchmark].alone else COMPUTE_THREADS
    resources:
        mem_mb=memory_of(evaluation_memory),
        runtime=lambda w, attempt: STUDY.benchmarks[w.benchmark].minutes * attempt,
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        scheme=scheme_params,
        measure=lambda w: benchmark_params(w.benchmark, w.model),
        first_windows=lambda w: STUDY.experiments[w.experiment].kind.first_windows,
        loading=loading,
        scheme_files=lambda w: list(scheme_files(w)),
        files=lambda w: list(benchmark_files(w)),
        pins=pins("lm"),
        code=lambda w: digest(
            "evaluate.py",
            *STUDY.benchmarks[w.benchmark].modules,
            *STUDY.experiments[w.experiment].kind.modules,
        ),
    message:
        "{wildcards.benchmark} of {wildcards.model} under {wildcards.experiment} ({resources.mem_mb} MB)"
    script:
        "../workflow_scripts/evaluate.py"
