# Tables from the result JSONs; no model is loaded. What a study's tables are is in rules/tables.yaml and, for
# its own, in its config. A compute node needs neither a GPU nor the libraries that load models.

from actsparse.tables.declared import declared_tables

# Without experiments on other thresholds than the FFN outputs', of which there is no table and no figure.
METHODS = {experiment.method for experiment in STUDY.experiments.values() if not experiment.counted}
TASKS = CONFIG.get("zero_shot", {}).get("tasks", [])
DECLARED_TABLES = declared_tables(
    os.path.join(workflow.basedir, "rules/tables.yaml"), CONFIG["tables"], METHODS, CONFIG["models"]
)
TABLES = expand(
    f"{RESULTS}/tables/{{table}}.{{suffix}}",
    table=DECLARED_TABLES,
    suffix=["csv", "md", "tex", "html"],
)
EVALUATIONS = expand(
    f"{RESULTS}/evaluations/{{model}}/{{experiment}}/{{benchmark}}.json",
    model=CONFIG["models"],
    experiment=STUDY.experiments,
    benchmark=STUDY.benchmarks,
)
THRESHOLDS = expand(
    f"{RESULTS}/thresholds/{{model}}/{{sparsity}}.json",
    model=CONFIG["models"],
    sparsity=sorted({e.thresholds for e in STUDY.experiments.values() if not e.counted} - {None}),
)


rule collate_tables:
    input:
        results=EVALUATIONS,
        thresholds=THRESHOLDS,
    output:
        expand(f"{RESULTS}/tables/{{table}}.{{suffix}}", table=DECLARED_TABLES, suffix=["csv", "md", "tex"]),
        [
            report(
                f"{RESULTS}/tables/{table}.html",
                caption="captions/table.rst",
                category="Tables",
                labels={"table": table},
            )
            for table in DECLARED_TABLES
        ],
    log:
        f"{RESULTS}/logs/collate_tables/tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/collate_tables/tables.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tables=DECLARED_TABLES,
        tasks=TASKS,
        code=digest("collate_tables.py"),
    message:
        "Collating the tables"
    script:
        "../workflow_scripts/collate_tables.py"
