# Tables from the result JSONs; no model is loaded. What a study's tables are is in rules/tables.yaml and, for
# its own, in its config. A compute node needs neither a GPU nor the libraries that load models.

from actsparse.report.tables.protocol import protocol
from actsparse.study.tables import declared_tables

METHODS = {experiment.method for experiment in STUDY.experiments.values()}
EVALUATIONS = [
    FILES.path("evaluation", model, f"{experiment}/{benchmark}")
    for model in CONFIG["models"]
    for experiment in STUDY.experiments
    for benchmark in STUDY.benchmarks
]
# Those that the study measures; given ones (models.<name>.thresholds) lie elsewhere.
THRESHOLDS = [
    FILES.path("thresholds", model, name)
    for model in CONFIG["models"]
    for name in sorted(STUDY.needs.get("thresholds", {}))
    if not FILES.is_given("thresholds", model, name)
]
EXTRA_ROWS = {e.kind.extra_rows.source for e in STUDY.experiments.values() if e.kind.extra_rows}
SOURCES = ({"evaluations"} | EXTRA_ROWS if EVALUATIONS else set()) | ({"thresholds"} if THRESHOLDS else set())
SOURCES |= {"seeds"} if EVALUATIONS and STUDY.repeats else set()
SOURCES |= {"comparisons"} if EVALUATIONS and STUDY.references else set()
DECLARED_TABLES = declared_tables(
    BASE / "rules/tables.yaml", CONFIG["tables"], SOURCES, METHODS, CONFIG["models"]
)


TABLES = table_files(DECLARED_TABLES, "csv", "md", "tex", "html")


rule collate_tables:
    input:
        results=EVALUATIONS,
        thresholds=THRESHOLDS,
    output:
        table_files(DECLARED_TABLES, "csv", "md", "tex"),
        [
            report(
                FILES.path("table", name=f"{table}.html"),
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
        config=CONFIG,
        references=STUDY.references,
        repeats=STUDY.repeats,
        measured=protocol(CONFIG),
        pins=pins("report"),
        code=digest("collate_tables.py"),
    message:
        "Collating the tables"
    script:
        "../workflow_scripts/collate_tables.py"
