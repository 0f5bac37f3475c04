"""All figures of the study, drawn in one process."""

from importlib import import_module
from pathlib import Path

from actsparse.jobs.logs import log_to
from actsparse.report.figures.data import StudyData, read_study
from actsparse.report.figures.style import save
from actsparse.report.tables.records import Results


def described(results: Results) -> str:
    """Name the commits and the experiments that results come from."""
    commits = {
        record["git_commit"] or "unknown" for records in results.values() for record in records.values()
    }
    experiments = ", ".join(f"{model}/{experiment}" for model, experiment in results)
    return f"commit {', '.join(sorted(commits))}; experiments {experiments}"


def draw_figures(
    data: StudyData, study: str, figures: dict[str, tuple[str, list[str]]], folder: Path
) -> None:
    """Draw each of `figures`, {name: (module of actsparse.report.figures, columns)}, as SVG and PDF."""
    source = f"study {study}; {described(data.results)}"
    for name, (module, columns) in figures.items():
        figure = import_module(f"actsparse.report.figures.{module}").draw(data, *columns)
        save(figure, folder / f"{name}.svg", folder / f"{name}.pdf", title=name, source=source)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        draw_figures(
            read_study(
                snakemake.params.results,
                snakemake.input.thresholds,
                snakemake.input.active,
                snakemake.params.benchmarks,
                snakemake.params.config,
            ),
            study=snakemake.params.study,
            figures=snakemake.params.figures,
            folder=Path(snakemake.output[0]).parent,
        )
