"""Where the study's numbers come from: its result files with checksums, commits, devices and versions."""

from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from actsparse.jobs.files import atomic_path, read_json, sha256_of, write_json
from actsparse.jobs.logs import log_to
from actsparse.report.tables.cells import best_values, columns, common_to_all_rows
from actsparse.report.tables.html import html_page
from actsparse.report.tables.render import told

CAPTION = "Result files of study {study}. Full checksums, versions and commits are in provenance.json."
SHOWN_DIGITS = 12


def describe(results: list[Path], config: dict[str, Any], as_json: Path, as_html: Path) -> None:
    """Write {"study", "results": {file: {"sha256", "git_commit", "device", "dtype", "versions"}}} as JSON.

    The same as a page, which shortens checksums and commits.
    """
    study = config["study"]
    files = {
        str(path): {
            "sha256": sha256_of(path),
            **{key: record[key] for key in ("git_commit", "device", "dtype", "versions")},
        }
        for path in results
        for record in [read_json(path)]
    }
    write_json(as_json, {"study": study, "results": files})
    rows = pd.DataFrame(
        {
            "file": name,
            "SHA-256": about["sha256"][:SHOWN_DIGITS],
            "commit": (about["git_commit"] or "unknown")[:SHOWN_DIGITS],
            "device": about["device"],
            "dtype": about["dtype"],
            **about["versions"],
        }
        for name, about in files.items()
    )
    common = common_to_all_rows(rows)
    shown = columns(rows.drop(columns=list(common)), best_values(rows, rows, {}), {}, {})
    page = html_page(shown, " ".join([CAPTION.format(study=study), *told(common, {})]), "provenance")
    with atomic_path(as_html) as temporary:
        temporary.write_text(page)


def write_config(config: dict[str, Any], as_yaml: Path, as_html: Path) -> None:
    """Write a validated config, as a file to run and as a page: reports do not show YAML."""
    text = yaml.safe_dump(config, sort_keys=False)
    page = (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>config</title><pre>{escape(text)}</pre>'
    )
    for target, content in ((as_yaml, text), (as_html, page)):
        with atomic_path(target) as temporary:
            temporary.write_text(content)


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        describe(
            snakemake.params.results,
            snakemake.params.config,
            as_json=snakemake.output.json,
            as_html=snakemake.output.html,
        )
        write_config(
            snakemake.params.config,
            as_yaml=snakemake.output.config,
            as_html=snakemake.output.shown_config,
        )
