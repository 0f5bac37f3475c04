"""Published numbers beside the study's: a verdict per cell, and the order of methods."""

from pathlib import Path
from typing import Any

import yaml
from actsparse.columns import Column
from actsparse.jobs.logs import log_to
from actsparse.report.fidelity import VERDICTS, compare
from actsparse.report.published import read_published
from actsparse.report.shapes import shapes
from actsparse.report.tables.records import kind_of, read_results
from actsparse.report.tables.render import write_table
from actsparse.report.tables.sources import evaluations

FIDELITY_CAPTION = (
    "Published numbers beside the study's: {counts}. Within tolerance and outside are judged by "
    "published/tolerances.yaml; a number is not comparable where model, protocol or text differ, for the "
    "reason given, and not published where it is ours alone."
)
SHAPES_CAPTION = (
    "Shapes, for a model that no paper has: the order of methods by perplexity beside the published order of "
    "the same methods on other models (Spearman's rank correlation), and perplexity over dense in both."
)

# Numbers of any metric have as many digits as they were published with.
COLUMNS = {
    column.name: column
    for column in (
        *(Column(name, significant=6) for name in ("published", "reproduced", "difference")),
        *(Column(name, large=True) for name in ("over_dense", "published_over_dense")),
        Column("rank_correlation", decimals=2),
    )
}


def compare_published(results: list[Path], published: Path, config: dict[str, Any], folder: Path) -> None:
    """Write the tables fidelity and shapes to `folder`, in all formats.

    `published` is the folder of published numbers, tolerances and known differences.
    """
    records = read_results(results)
    rows = evaluations(records)
    kinds = {key: kind_of(found) for key, found in records.items()}
    cells = read_published(published)
    tolerances = yaml.safe_load((published / "tolerances.yaml").read_text())
    known = yaml.safe_load((published / "known_differences.yaml").read_text())
    fidelity = compare(rows, kinds, config, cells, tolerances, known)
    # Empty, not missing: most published numbers have no counterpart here.
    fidelity = fidelity.fillna(dict.fromkeys(("model", "experiment", "reason"), ""))
    counts = ", ".join(f"{(fidelity.verdict == verdict).sum()} {verdict}" for verdict in VERDICTS)
    for name, table, caption in (
        ("fidelity", fidelity, FIDELITY_CAPTION.format(counts=counts)),
        ("shapes", shapes(rows, kinds, cells, known), SHAPES_CAPTION),
    ):
        headings = {column: column.replace("_", " ") for column in table.columns}
        write_table(table, table, {"columns": headings, "caption": caption}, COLUMNS, name, folder)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        compare_published(
            snakemake.params.results,
            Path(snakemake.input.published[0]).parent,
            snakemake.params.config,
            Path(snakemake.output[0]).parent,
        )
