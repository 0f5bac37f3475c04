# Figures, the comparison with the papers, provenance, and the archive of a finished study.

from actsparse.report.figures import figures_of

# The results change when this table does, which is made of them: every rule that names thousands of files as its
# inputs costs a second of each plan.
RESULTS_TABLE = TABLES[:1]
PUBLISHED = [
    BASE / "published" / name
    for name in (
        "nm_activation_pruning_tables.csv",
        "threshold_perplexity.csv",
        "tolerances.yaml",
        "known_differences.yaml",
    )
]
COMPARED = ["fidelity", "shapes"] if EVALUATIONS else []
COMPARISONS = table_files(COMPARED, "csv", "md", "tex", "html")
PROVENANCE = [
    FILES.path("provenance", name="json"),
    FILES.path("provenance", name="html"),
    FILES.path("config", name="yaml"),
]
# Of the patterns that codebooks are fitted to, those of the dense model on the calibration text.
ACTIVE_NEURONS = [
    FILES.path("active_neurons", model, patterns)
    for model in CONFIG["models"]
    for patterns in sorted(
        {
            spec["patterns"]
            for spec in CODEBOOKS.values()
            if "patterns" in spec and "-" not in spec["patterns"]
        }
    )
]
MEASURED = SOURCES | ({"active_neurons"} if ACTIVE_NEURONS else set())
DRAWN = figures_of(CONFIG, MEASURED)


FIGURES = figure_files(DRAWN, "svg", "pdf")


localrules:
    summarise_patterns,
    draw_figures,
    compare_published,
    describe_results,
    archive,


report: "captions/study.rst"


rule summarise_patterns:
    input:
        patterns=lambda w: FILES.path("patterns", w.model, w.sparsity),
    output:
        FILES.output("active_neurons"),
    log:
        f"{RESULTS}/logs/summarise_patterns/{{model}}/{{sparsity}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/summarise_patterns/{{model}}/{{sparsity}}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        pins=pins("report"),
        code=digest("summarise_patterns.py"),
    message:
        "How often neurons of {wildcards.model} are active at sparsity {wildcards.sparsity}"
    script:
        "../workflow_scripts/summarise_patterns.py"


# One process draws them all: loading matplotlib takes longer than drawing. Benchmark files are read where they
# are there; as inputs, a lost one would run its job again.
rule draw_figures:
    input:
        table=RESULTS_TABLE,
        thresholds=THRESHOLDS,
        active=ACTIVE_NEURONS,
    output:
        [
            report(
                FILES.path("figure", name=f"{figure}.svg"),
                caption=f"captions/{module}.rst",
                category="Figures",
                labels={"figure": figure.replace("_", " ")},
            )
            for figure, (module, _) in DRAWN.items()
        ],
        figure_files(DRAWN, "pdf"),
    log:
        f"{RESULTS}/logs/draw_figures/figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_figures/figures.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        results=EVALUATIONS,
        study=STUDY.name,
        measured=protocol(CONFIG),
        config=CONFIG,
        figures=DRAWN,
        benchmarks=f"{RESULTS}/benchmarks",
        pins=pins("report"),
        code=digest(
            "draw_figures.py", *(f"actsparse.report.figures.{module}" for module, _ in DRAWN.values())
        ),
    message:
        "Drawing the figures"
    script:
        "../workflow_scripts/draw_figures.py"


rule compare_published:
    input:
        table=RESULTS_TABLE,
        published=PUBLISHED,
    output:
        table_files(["fidelity", "shapes"], "csv", "md", "tex"),
        [
            report(
                FILES.path("table", name=f"{table}.html"),
                caption="captions/published.rst",
                category="Published",
                labels={"table": table},
            )
            for table in ("fidelity", "shapes")
        ],
    log:
        f"{RESULTS}/logs/compare_published/comparison.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_published/comparison.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        results=EVALUATIONS,
        config=CONFIG,
        pins=pins("report"),
        code=digest("compare_published.py"),
    message:
        "Comparing with the published tables"
    script:
        "../workflow_scripts/compare_published.py"


rule describe_results:
    input:
        table=RESULTS_TABLE,
    output:
        json=FILES.path("provenance", name="json"),
        html=report(
            FILES.path("provenance", name="html"),
            caption="captions/provenance.rst",
            category="Provenance",
            labels={"file": "result files"},
        ),
        config=FILES.path("config", name="yaml"),
        shown_config=report(
            FILES.path("config", name="html"),
            caption="captions/config.rst",
            category="Provenance",
            labels={"file": "config"},
        ),
    log:
        f"{RESULTS}/logs/describe_results/provenance.log",
    benchmark:
        f"{RESULTS}/benchmarks/describe_results/provenance.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        results=EVALUATIONS,
        config=CONFIG,
        pins=pins("report"),
        code=digest("describe_results.py"),
    message:
        "Listing the result files with checksums and versions"
    script:
        "../workflow_scripts/describe_results.py"


rule archive:
    input:
        TABLES,
        COMPARISONS,
        FIGURES,
        provenance=PROVENANCE,
    output:
        f"results/{STUDY.name}.crate.zip",
    log:
        f"{RESULTS}/logs/archive/archive.log",
    benchmark:
        f"{RESULTS}/benchmarks/archive/archive.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        pins=pins("report"),
        code=digest("archive_study.py"),
    message:
        "Packing the study into {output}"
    script:
        "../workflow_scripts/archive_study.py"
