# Tables from the result JSONs; no model is loaded.

TABLES = expand(
    f"{RESULTS}/tables/{{table}}.{{suffix}}",
    table=["results", "codebooks"] if STUDY.codebooks else ["results"],
    suffix=["csv", "md", "tex"],
)


rule collate_tables:
    input:
        expand(
            f"{RESULTS}/evaluations/{{model}}/{{experiment}}/{{benchmark}}.json",
            model=CONFIG["models"],
            experiment=STUDY.experiments,
            benchmark=STUDY.benchmarks,
        ),
    output:
        expand(f"{RESULTS}/tables/{{{{table}}}}.{{suffix}}", suffix=["csv", "md", "tex"]),
    log:
        f"{RESULTS}/logs/collate_tables/{{table}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/collate_tables/{{table}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tasks=CONFIG.get("zero_shot", {}).get("tasks", []),
        code=digest("collate_tables.py"),
    message:
        "Collating the table of {wildcards.table}"
    script:
        "../workflow_scripts/collate_tables.py"
