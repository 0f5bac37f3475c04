"""All tables of the study, from its result JSONs and thresholds; no model is loaded."""

from pathlib import Path
from typing import Any

from actsparse.jobs.logs import log_to
from actsparse.report.tables.choose import choose
from actsparse.report.tables.protocol import protocol
from actsparse.report.tables.records import by_benchmark, read_results
from actsparse.report.tables.render import write_table
from actsparse.report.tables.sources import evaluations, extra_rows, thresholds
from actsparse.study.tables import known_columns


def collate(
    results: list[Path],
    threshold_files: list[Path],
    tables: dict[str, dict],
    config: dict[str, Any],
    folder: Path,
) -> None:
    """Write each of `tables`, {name: declaration}, to `folder` as CSV, Markdown, LaTeX and HTML.

    `config` is the study's, validated.
    """
    records = read_results(results)
    known = {
        declared["source"]: known_columns(declared["source"], config, by_benchmark(records))
        for declared in tables.values()
    }
    measured = protocol(config, by_benchmark(records))
    sources = {
        "evaluations": evaluations(records, known.get("evaluations", {}).values()),
        "thresholds": thresholds(threshold_files),
        **extra_rows(records),
    }
    for name, declared in tables.items():
        source = declared["source"]
        caption = f"{declared['caption']} {measured[source]}".strip()
        chosen = choose(sources[source], declared, config)
        write_table(chosen, sources[source], declared | {"caption": caption}, known[source], name, folder)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        collate(
            snakemake.input.results,
            snakemake.input.thresholds,
            snakemake.params.tables,
            snakemake.params.config,
            Path(snakemake.output[0]).parent,
        )
