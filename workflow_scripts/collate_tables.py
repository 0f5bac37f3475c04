"""All tables of the study, from its result JSONs and thresholds; no model is loaded."""

from pathlib import Path
from typing import Any

from actsparse.jobs.logs import log_to
from actsparse.report.tables.choose import choose
from actsparse.report.tables.comparisons import Paired, comparisons
from actsparse.report.tables.protocol import protocol
from actsparse.report.tables.records import by_benchmark, read_results
from actsparse.report.tables.render import write_table
from actsparse.report.tables.sources import evaluations, extra_rows, over_seeds, thresholds
from actsparse.study.tables import known_columns


def collate(
    results: list[Path],
    threshold_files: list[Path],
    tables: dict[str, dict],
    config: dict[str, Any],
    folder: Path,
    references: dict[str, str] | None = None,
    repeats: dict[str, str] | None = None,
) -> None:
    """Write each of `tables`, {name: declaration}, to `folder` as CSV, Markdown, LaTeX and HTML.

    `config` is the study's, validated; `references` says which experiment each one is compared with,
    `repeats` which ones differ in their seeds alone, {experiment: name without the seed}.
    """
    records = read_results(results)
    known = {
        source: known_columns(source, config, by_benchmark(records))
        for source in {"evaluations", *(declared["source"] for declared in tables.values())}
    }
    paired = Paired(records, known["evaluations"], references)
    measured = protocol(config, by_benchmark(records))
    evaluated = evaluations(records, known["evaluations"].values(), paired)
    sources = {
        "evaluations": evaluated,
        "seeds": over_seeds(evaluated, known["evaluations"].values(), repeats or {}),
        "comparisons": comparisons(paired),
        "thresholds": thresholds(threshold_files),
        **extra_rows(records),
    }
    for name, declared in tables.items():
        source = declared["source"]
        caption = f"{declared['caption']} {measured[source]}".strip()
        chosen = choose(sources[source], declared, config)
        asked = declared | {"caption": caption}
        write_table(chosen, sources[source], asked, known[source], name, folder, paired)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        collate(
            snakemake.input.results,
            snakemake.input.thresholds,
            snakemake.params.tables,
            snakemake.params.config,
            Path(snakemake.output[0]).parent,
            snakemake.params.references,
            snakemake.params.repeats,
        )
