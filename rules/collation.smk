# Tables from the result JSONs; no model is loaded. What a study's tables are is in rules/tables.yaml and, for
# its own, in its config. A compute node needs neither a GPU nor the libraries that load models.

from actsparse.report.tables.declared import declared_tables
from actsparse.report.tables.protocol import protocol

METHODS = {experiment.method for experiment in STUDY.experiments.values()}
TASKS = CONFIG.get("zero_shot", {}).get("tasks", [])
EVALUATIONS = expand(
    f"{RESULTS}/evaluations/{{model}}/{{experiment}}/{{benchmark}}.json",
    model=CONFIG["models"],
    experiment=STUDY.experiments,
    benchmark=STUDY.benchmarks,
)
# Those that the study measures; given ones (models.<name>.thresholds) lie elsewhere.
THRESHOLDS = [
    f"{RESULTS}/thresholds/{model}/{name}.json"
    for model in CONFIG["models"]
    for name in sorted({e.thresholds for e in STUDY.experiments.values()} - {None})
    if name not in CONFIG["models"][model]["thresholds"]
]
FOUND = {"evaluations": EVALUATIONS, "codebooks": STUDY.codebooks, "thresholds": THRESHOLDS}
SOURCES = {source for source, found in FOUND.items() if found}
DECLARED_TABLES = declared_tables(
    os.path.join(workflow.basedir, "rules/tables.yaml"), CONFIG["tables"], SOURCES, METHODS, CONFIG["models"]
)
TABLES = expand(
    f"{RESULTS}/tables/{{table}}.{{suffix}}",
    table=DECLARED_TABLES,
    suffix=["csv", "md", "tex", "html"],
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
        measured=protocol(CONFIG),
        code=digest("collate_tables.py"),
    message:
        "Collating the tables"
    script:
        "../workflow_scripts/collate_tables.py"
