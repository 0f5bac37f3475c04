# A second pass stores which neurons reach the thresholds, one bit each: in the calibration text or, as published and
# to measure what codebooks cover, in the text that perplexity is measured on; of the dense model, or of the model
# with its thresholds at work.
from actsparse.kinds.codebook import EVALUATED_TEXT, HELD_OUT

PATTERN_TEXTS = {"": "calibration", "-published": EVALUATED_TEXT, HELD_OUT: EVALUATED_TEXT}


rule extract_patterns:
    input:
        model=manifest,
        windows=lambda w: FILES.path("windows", w.model, PATTERN_TEXTS[w.text]),
        thresholds=lambda w: FILES.path("thresholds", w.model, w.sparsity),
    output:
        directory(FILES.output("patterns")),
    log:
        f"{RESULTS}/logs/extract_patterns/{{model}}/{{sparsity}}{{of}}{{importance}}{{text}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_patterns/{{model}}/{{sparsity}}{{of}}{{importance}}{{text}}.tsv"
    wildcard_constraints:
        of="|-thresholded",
        importance="|-contribution",
        text="|".join(PATTERN_TEXTS),
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(pattern_memory),
        runtime=each_attempt(120),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        projections=FEED_FORWARD,
        thresholded=lambda w: bool(w.of),
        patterns=CONFIG["codebooks"]["patterns"],
        importance=lambda w: w.importance.strip("-") or "magnitude",
        magnitudes=lambda w: stored_magnitudes(w.sparsity + w.of + w.importance + w.text),
        values=lambda w: stores_values(w.sparsity + w.of + w.importance + w.text),
        loading=loading,
        pins=pins("lm"),
        code=digest("extract_patterns.py"),
    message:
        "Extracting activation patterns of {wildcards.model} at sparsity {wildcards.sparsity}{wildcards.of}{wildcards.importance}{wildcards.text}"
    script:
        "../workflow_scripts/extract_patterns.py"
