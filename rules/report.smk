# Figures, the comparison with the papers, provenance, and the archive of a finished study.

from actsparse.report.figures import figures_of

# The results change when this table does, which is made of them: every rule that names thousands of files as its
# inputs costs a second of each plan.
RESULTS_TABLE = TABLES[0]
PUBLISHED = [
    os.path.join(workflow.basedir, "published", name)
    for name in (
        "nm_activation_pruning_tables.csv",
        "threshold_perplexity.csv",
        "tolerances.yaml",
        "known_differences.yaml",
    )
]
COMPARISONS = expand(
    f"{RESULTS}/tables/{{table}}.{{suffix}}",
    table=["fidelity", "shapes"],
    suffix=["csv", "md", "tex", "html"],
)
PROVENANCE = [f"{RESULTS}/provenance.json", f"{RESULTS}/provenance.html", f"{RESULTS}/config.yaml"]
ACTIVE_NEURONS = [
    f"{RESULTS}/active_neurons/{model}/{sparsity}.json"
    for model in CONFIG["models"]
    for sparsity in sorted(
        {
            codebook["threshold"]
            for codebook in STUDY.codebooks.values()
            if patterns_slug(codebook) == str(codebook["threshold"]) and "centroids" not in codebook
        }
    )
]
MEASURED = SOURCES | set(STUDY.benchmarks) | ({"active_neurons"} if ACTIVE_NEURONS else set())
FIGURES = expand(
    f"{RESULTS}/figures/{{figure}}.{{suffix}}",
    figure=figures_of(MEASURED),
    suffix=["svg", "pdf"],
)


localrules:
    summarise_patterns,
    draw_figures,
    compare_published,
    describe_results,
    archive,


report: "captions/study.rst"


rule summarise_patterns:
    input:
        patterns=lambda w: patterns_folder(w.model, w.sparsity),
    output:
        f"{RESULTS}/active_neurons/{{model}}/{{sparsity}}.json",
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
                f"{RESULTS}/figures/{figure}.svg",
                caption=f"captions/{figure}.rst",
                category="Figures",
                labels={"figure": figure.replace("_", " ")},
            )
            for figure in figures_of(MEASURED)
        ],
        expand(f"{RESULTS}/figures/{{figure}}.pdf", figure=figures_of(MEASURED)),
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
        figures=figures_of(MEASURED),
        benchmarks=f"{RESULTS}/benchmarks",
        code=digest("draw_figures.py", *(f"actsparse.report.figures.{name}" for name in figures_of(MEASURED))),
    message:
        "Drawing the figures"
    script:
        "../workflow_scripts/draw_figures.py"


rule compare_published:
    input:
        table=RESULTS_TABLE,
        published=PUBLISHED,
    output:
        expand(
            f"{RESULTS}/tables/{{table}}.{{suffix}}",
            table=["fidelity", "shapes"],
            suffix=["csv", "md", "tex"],
        ),
        [
            report(
                f"{RESULTS}/tables/{table}.html",
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
        code=digest("compare_published.py"),
    message:
        "Comparing with the published tables"
    script:
        "../workflow_scripts/compare_published.py"


rule describe_results:
    input:
        table=RESULTS_TABLE,
    output:
        json=f"{RESULTS}/provenance.json",
        html=report(
            f"{RESULTS}/provenance.html",
            caption="captions/provenance.rst",
            category="Provenance",
            labels={"file": "result files"},
        ),
        config=f"{RESULTS}/config.yaml",
        shown_config=report(
            f"{RESULTS}/config.html",
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
        code=digest("archive_study.py"),
    message:
        "Packing the study into {output}"
    script:
        "../workflow_scripts/archive_study.py"
