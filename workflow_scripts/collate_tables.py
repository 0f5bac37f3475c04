"""One table of the study, from its result JSONs."""

from pathlib import Path

from actsparse.logs import log_to
from actsparse.tables import codebooks_table, read_results, results_table, write_table


def collate(results: list[Path], table: str, tasks: list[str], outputs: list[Path]) -> None:
    """Write the table named `table` (results, codebooks) as CSV, Markdown and LaTeX to `outputs`."""
    records = read_results(results)
    frame = results_table(records, tasks) if table == "results" else codebooks_table(records)
    write_table(frame, *outputs)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        collate(snakemake.input, snakemake.wildcards.table, snakemake.params.tasks, snakemake.output)
