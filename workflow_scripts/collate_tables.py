"""All tables of the study, from its result JSONs and thresholds; no model is loaded."""

from pathlib import Path

from actsparse.jobs.logs import log_to
from actsparse.report.tables.choose import choose
from actsparse.report.tables.records import read_results
from actsparse.report.tables.render import write_table
from actsparse.report.tables.sources import codebooks, evaluations, thresholds


def collate(
    results: list[Path],
    threshold_files: list[Path],
    tables: dict[str, dict],
    tasks: list[str],
    measured: dict[str, str],
    folder: Path,
) -> None:
    """Write each of `tables`, {name: declaration}, to `folder` as CSV, Markdown, LaTeX and HTML.

    `measured` is what the numbers of each source were measured on, as a sentence for the captions.
    """
    records = read_results(results)
    sources = {
        "evaluations": evaluations(records),
        "codebooks": codebooks(records),
        "thresholds": thresholds(threshold_files),
    }
    for name, declared in tables.items():
        rows = sources[declared["source"]]
        caption = f"{declared['caption']} {measured[declared['source']]}".strip()
        write_table(choose(rows, declared, tasks), rows, declared | {"caption": caption}, name, tasks, folder)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        collate(
            snakemake.input.results,
            snakemake.input.thresholds,
            snakemake.params.tables,
            snakemake.params.tasks,
            snakemake.params.measured,
            Path(snakemake.output[0]).parent,
        )
