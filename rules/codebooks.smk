# Activation patterns are clustered into K binary centroids per projection.


rule fit_codebook:
    input:
        patterns=lambda w: f"{RESULTS}/patterns/{w.model}/{STUDY.codebooks[w.codebook]['threshold']}",
    output:
        f"{RESULTS}/codebooks/{{model}}/{{codebook}}.safetensors",
    log:
        f"{RESULTS}/logs/fit_codebook/{{model}}/{{codebook}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_codebook/{{model}}/{{codebook}}.tsv"
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
                for key in ("clusters", "centroid_sparsity", "algorithm", "scope")
            }
            | CONFIG["codebooks"]
            | {"seed": CONFIG["seed"]}
        ),
        code=lambda w: digest(
            "fit_codebook.py",
            "actsparse.codebooks.kernels",
            ALGORITHMS[STUDY.codebooks[w.codebook]["algorithm"]].split(":")[0],
        ),
    message:
        "Fitting codebook {wildcards.codebook} of {wildcards.model}"
    script:
        "../workflow_scripts/fit_codebook.py"
