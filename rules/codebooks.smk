# Activation patterns are clustered into K binary centroids per projection.

GIVEN_CODEBOOKS = [name for name, params in STUDY.codebooks.items() if "centroids" in params]
FITTED_CODEBOOKS = [name for name in STUDY.codebooks if name not in GIVEN_CODEBOOKS]


rule fit_codebook:
    input:
        patterns=lambda w: patterns_folder(w.model, patterns_slug(STUDY.codebooks[w.codebook])),
    output:
        f"{RESULTS}/codebooks/{{model}}/{{codebook}}.safetensors",
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
        mem_mb=each_attempt(8000),
        runtime=each_attempt(240),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        spec=lambda w: (
            {
                key: STUDY.codebooks[w.codebook][key]
                for key in ("clusters", "centroid_sparsity", "allocation", "algorithm", "scope", "groups")
            }
            | {key: CONFIG["codebooks"][key] for key in ("patterns", "steps")}
            | {"seed": CONFIG["seed"], "options": codebook_options(STUDY.codebooks[w.codebook])}
        ),
        device=CONFIG["device"],
        code=lambda w: digest(
            "fit_codebook.py",
            "actsparse.codebooks.kernels",
            ALGORITHMS[STUDY.codebooks[w.codebook]["algorithm"]].split(":")[0],
        ),
    message:
        "Fitting codebook {wildcards.codebook} of {wildcards.model}"
    script:
        "../workflow_scripts/fit_codebook.py"


# Routers predict the centroids of an experiment's projections from hidden states.
rule train_routers:
    input:
        model="resources/models/{model}.json",
        windows=f"{RESULTS}/windows/{{model}}/calibration.safetensors",
        thresholds=lambda w: thresholds_file(w.model, STUDY.routers[w.router]["threshold"]),
        codebook=lambda w: f"{RESULTS}/codebooks/{w.model}/{STUDY.routers[w.router]['codebook']}.safetensors",
    output:
        f"{RESULTS}/routers/{{model}}/{{router}}.safetensors",
    log:
        f"{RESULTS}/logs/train_routers/{{model}}/{{router}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_routers/{{model}}/{{router}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: COMPUTE_THREADS
    resources:
        mem_mb=router_memory,
        runtime=each_attempt(240),
        gpu=GPUS,
        jobs_per_gpu=CONFIG["jobs_per_gpu"],
    params:
        training=lambda w: {
            "projections": STUDY.routers[w.router]["projections"],
            "patterns_of": STUDY.routers[w.router]["patterns_of"],
            "rank": STUDY.routers[w.router].get("router_rank"),
            "loss": STUDY.routers[w.router]["router_loss"],
            "epochs": CONFIG["codebooks"]["router_epochs"],
            "seed": CONFIG["seed"],
        },
        loading=loading,
        code=digest("train_routers.py", "actsparse.codebooks.kernels"),
    message:
        "Training routers {wildcards.router} of {wildcards.model}"
    script:
        "../workflow_scripts/train_routers.py"


rule import_centroids:
    input:
        lambda w: list(STUDY.codebooks[w.codebook]["centroids"].values()),
    output:
        f"{RESULTS}/codebooks/{{model}}/{{codebook}}.safetensors",
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
        mem_mb=each_attempt(4000),
        runtime=each_attempt(20),
    params:
        sources=lambda w: STUDY.codebooks[w.codebook]["centroids"],
        clusters=lambda w: STUDY.codebooks[w.codebook]["clusters"],
        code=digest("import_centroids.py"),
    message:
        "Importing given centroids {wildcards.codebook}"
    script:
        "../workflow_scripts/import_centroids.py"


# Asked for by name: snakemake results/<study>/exports/<model>/<codebook>
rule export_centroids:
    input:
        f"{RESULTS}/codebooks/{{model}}/{{codebook}}.safetensors",
    output:
        directory(f"{RESULTS}/exports/{{model}}/{{codebook}}"),
    log:
        f"{RESULTS}/logs/export_centroids/{{model}}/{{codebook}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_centroids/{{model}}/{{codebook}}.tsv"
    conda:
        "../envs/lm.yaml"
    threads: 1
    resources:
        mem_mb=each_attempt(8000),
        runtime=each_attempt(20),
    params:
        code=digest("export_centroids.py"),
    message:
        "Exporting centroids {wildcards.codebook} of {wildcards.model}"
    script:
        "../workflow_scripts/export_centroids.py"
