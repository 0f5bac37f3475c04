# One pass over the calibration text counts activation magnitudes; thresholds of any sparsity follow. TEAL's
# search, where an experiment wants it, gives each projection of a layer a sparsity of its own.

from actsparse.kinds.threshold import GREEDY_LIMIT


localrules:
    compute_thresholds,


# A search passes all sparsities up to the highest that some experiment asks for.
HIGHEST_GREEDY = max(
    [spec["searched_to"] for spec in STUDY.needs.get("thresholds", {}).values() if spec], default=0
)


rule measure_histograms:
    input:
        model=manifest,
        windows=FILES.output("windows", use="calibration"),
    output:
        FILES.output("histograms"),
    log:
        f"{RESULTS}/logs/measure_histograms/{{model}}{{counted}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_histograms/{{model}}{{counted}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(lambda shape, dtype, w: memory.histograms(shape, dtype, LENGTH)),
        runtime=each_attempt(120),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        counted=lambda w: COUNTED[w.counted],
        loading=loading,
        pins=pins("lm"),
        code=lambda w: digest("measure_histograms.py", SCORERS[COUNTED[w.counted]["scorer"]].module),
    message:
        "Counting activation magnitudes of {wildcards.model} ({params.counted[side]}s)"
    script:
        "../workflow_scripts/measure_histograms.py"


rule search_allocation:
    input:
        model=manifest,
        windows=FILES.output("windows", use="calibration"),
        histograms=FILES.output("histograms", counted="-inputs"),
    output:
        FILES.output("allocation"),
    log:
        f"{RESULTS}/logs/search_allocation/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/search_allocation/{{model}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(
            lambda shape, dtype, w: memory.search(
                shape, dtype, LENGTH, min(WINDOWS, CONFIG["allocation"]["sequences"])
            )
        ),
        runtime=each_attempt(480),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        search=CONFIG["allocation"] | {"until": HIGHEST_GREEDY, "limit": GREEDY_LIMIT},
        loading=loading,
        pins=pins("lm"),
        code=digest("search_allocation.py"),
    message:
        "Greedy search for the sparsity of each projection of {wildcards.model}"
    script:
        "../workflow_scripts/search_allocation.py"


rule compute_thresholds:
    input:
        unpack(lambda w: {"allocation": FILES.path("allocation", w.model)} if w.searched else {}),
        histograms=FILES.output("histograms"),
    output:
        FILES.output("thresholds"),
    log:
        f"{RESULTS}/logs/compute_thresholds/{{model}}/{{sparsity}}{{counted}}{{searched}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_thresholds/{{model}}/{{sparsity}}{{counted}}{{searched}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=memory.asked_mb(memory.libraries()),
        runtime=10,
    params:
        pins=pins("lm"),
        code=lambda w: digest(
            "compute_thresholds.py", *(["actsparse.calibration.greedy_search"] if w.searched else [])
        ),
    message:
        "Thresholds of {wildcards.model} at sparsity {wildcards.sparsity}"
    script:
        "../workflow_scripts/compute_thresholds.py"
