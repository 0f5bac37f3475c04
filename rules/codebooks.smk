# Activation patterns are clustered into K binary centroids per projection.

CODEBOOKS = STUDY.needs.get("codebooks", {})
ROUTERS = STUDY.needs.get("routers", {})
GIVEN_CODEBOOKS = [name for name, spec in CODEBOOKS.items() if "given" in spec]
FITTED_CODEBOOKS = [name for name in CODEBOOKS if name not in GIVEN_CODEBOOKS]


rule fit_codebook:
    input:
        patterns=lambda w: FILES.path("patterns", w.model, CODEBOOKS[w.codebook]["patterns"]),
        held_out=held_out_patterns,
    output:
        FILES.output("codebooks"),
    log:
        f"{RESULTS}/logs/fit_codebook/{{model}}/{{codebook}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_codebook/{{model}}/{{codebook}}.tsv"
    wildcard_constraints:
        codebook="|".join(map(re.escape, FITTED_CODEBOOKS)) or "none",
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(fitting_memory),
        runtime=each_attempt(240),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        spec=lambda w: CODEBOOKS[w.codebook]["fit"]
        | {"patterns": CONFIG["codebooks"]["patterns"], "steps": CONFIG["codebooks"]["steps"]}
        | {"seed": CODEBOOKS[w.codebook]["fit"].get("seed", CONFIG["seed"])},
        device=CONFIG["device"],
        pins=pins("lm"),
        code=lambda w: digest(
            "fit_codebook.py",
            "actsparse.codebooks.kernels",
            CODEBOOKS[w.codebook]["module"],
        ),
    message:
        "Fitting codebook {wildcards.codebook} of {wildcards.model}"
    script:
        "../workflow_scripts/fit_codebook.py"


# Routers predict the centroids of an experiment's projections from hidden states.
rule train_routers:
    input:
        model=manifest,
        windows=FILES.output("windows", use="calibration"),
        thresholds=lambda w: FILES.path("thresholds", w.model, ROUTERS[w.router]["thresholds"]),
        codebook=lambda w: FILES.path("codebooks", w.model, ROUTERS[w.router]["centroids"]),
    output:
        FILES.output("routers"),
    log:
        f"{RESULTS}/logs/train_routers/{{model}}/{{router}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_routers/{{model}}/{{router}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=memory_of(routers_memory),
        runtime=each_attempt(240),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        training=lambda w: {"seed": CONFIG["seed"]}
        | ROUTERS[w.router]["training"]
        | {"epochs": CONFIG["codebooks"]["router_epochs"]},
        loading=loading,
        pins=pins("lm"),
        code=digest("train_routers.py", "actsparse.codebooks.kernels"),
    message:
        "Training routers {wildcards.router} of {wildcards.model}"
    script:
        "../workflow_scripts/train_routers.py"


rule import_centroids:
    input:
        lambda w: list(CODEBOOKS[w.codebook]["given"].values()),
    output:
        FILES.output("codebooks"),
    log:
        f"{RESULTS}/logs/import_centroids/{{model}}/{{codebook}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/import_centroids/{{model}}/{{codebook}}.tsv"
    wildcard_constraints:
        codebook="|".join(map(re.escape, GIVEN_CODEBOOKS)) or "none",
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=memory_of(matrix_memory),
        runtime=each_attempt(20),
    params:
        sources=lambda w: CODEBOOKS[w.codebook]["given"],
        clusters=lambda w: CODEBOOKS[w.codebook]["clusters"],
        pins=pins("lm"),
        code=digest("import_centroids.py"),
    message:
        "Importing given centroids {wildcards.codebook}"
    script:
        "../workflow_scripts/import_centroids.py"


# Asked for by name: snakemake results/<study>/exports/<model>/<codebook>
rule export_centroids:
    input:
        FILES.output("codebooks"),
    output:
        directory(FILES.output("centroids")),
    log:
        f"{RESULTS}/logs/export_centroids/{{model}}/{{codebook}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_centroids/{{model}}/{{codebook}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=memory_of(matrix_memory),
        runtime=each_attempt(20),
    params:
        pins=pins("lm"),
        code=digest("export_centroids.py"),
    message:
        "Exporting centroids {wildcards.codebook} of {wildcards.model}"
    script:
        "../workflow_scripts/export_centroids.py"
