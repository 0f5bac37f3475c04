"""The report in a real browser, and the archive that tables can be made from again."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml
from actsparse.jobs.files import sha256_of
from browser import MISSING, browser
from rocrate.rocrate import ROCrate
from tiny_study import CONFIG, ROOT, run

in_browser = pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)} (Debian packages)")

OPEN_CATEGORY = """
const links = [...document.querySelectorAll("a")];
const found = links.find((link) => link.innerText.trim() === "{name}");
if (found) found.click();
return Boolean(found)"""
ROWS = 'return document.querySelectorAll("table a").length / 2'
VIEW = 'document.querySelectorAll("table a")[2 * {number}].click()'
SHOWN_FIGURE = """
const figures = [...document.querySelectorAll("img")].filter((image) => image.closest("nav") === null);
const shown = figures.filter((image) => image.complete && image.naturalWidth > 200);
return shown.length && shown[0].src"""
FIRST_COLUMN_OF = """
const heads = [...document.querySelectorAll("th")];
const index = heads.findIndex((head) => head.innerText.includes("{heading}"));
if ({click}) heads[index].querySelector("button").click();
return [...document.querySelectorAll("tbody tr")].map((row) => Number(row.children[index].dataset.sort))"""


@pytest.fixture(scope="module")
def report(finished_study, tmp_path_factory):
    study, workflow = finished_study
    target = tmp_path_factory.mktemp("report") / "report.html"
    run(study, "--report", str(target), workflow=workflow)
    return target


@pytest.fixture
def page(report, tmp_path):
    with browser(tmp_path / "profile") as opened:
        opened.open(report.as_uri())
        opened.wait("return document.body.innerText.includes('Study tiny')")
        yield opened


@in_browser
def test_every_figure_is_visible(page, finished_study, tmp_path):
    page.wait(OPEN_CATEGORY.format(name="Figures"))
    figures = len(list((finished_study[0] / "results/tiny/figures").glob("*.svg")))
    assert page.wait(ROWS) == figures
    seen = set()
    for number in range(figures):
        page.run(VIEW.format(number=number))
        page.wait(
            f"const s = (() => {{{SHOWN_FIGURE}}})(); return s && !{json.dumps(sorted(seen))}.includes(s)"
        )
        seen.add(page.run(SHOWN_FIGURE))
    assert len(seen) == figures
    page.screenshot(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert page.console_errors() == []


@in_browser
def test_a_table_sorts_by_a_click_without_network(page, tmp_path):
    page.wait(OPEN_CATEGORY.format(name="Tables"))
    names = page.wait(
        "return [...document.querySelectorAll('table tbody tr')].map((r) => r.innerText.trim())"
    )
    page.run(VIEW.format(number=names.index("results")))
    page.wait("return document.querySelectorAll('iframe').length")
    page.enter_frame(0)
    page.wait("return document.querySelectorAll('tbody tr').length")
    before = page.run(FIRST_COLUMN_OF.format(heading="perplexity", click="false"))
    assert page.run(FIRST_COLUMN_OF.format(heading="perplexity", click="true")) == sorted(before)
    down = page.run(FIRST_COLUMN_OF.format(heading="perplexity", click="true"))
    assert down == sorted(before, reverse=True)
    page.leave_frame()
    page.screenshot(tmp_path / "table.png")
    assert page.console_errors() == []


@in_browser
@pytest.mark.parametrize(
    "category", ["Tables", "Figures", "Published", "Provenance", "Workflow", "Statistics"]
)
def test_every_part_opens(page, category):
    page.wait(OPEN_CATEGORY.format(name=category))
    page.wait("return document.querySelectorAll('table, canvas, svg.marks').length")
    assert page.console_errors() == []


def test_the_report_is_one_file_that_loads_nothing(report):
    text = report.read_text()
    assert '<script src="http' not in text and '<link rel="stylesheet" href="http' not in text


@pytest.fixture(scope="module")
def archive(finished_study):
    study, workflow = finished_study
    run(study, "archive", workflow=workflow)
    return study / "results/tiny.crate.zip"


@pytest.fixture(scope="module")
def unpacked(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    zipfile.ZipFile(archive).extractall(folder)
    return folder


def test_the_archive_is_a_crate_with_checksums(unpacked):
    crate = ROCrate(unpacked)
    files = [entity for entity in crate.get_entities() if entity.type == "File"]
    assert crate.name == "ActSparse study tiny"
    assert {Path(file.id).parts[2] for file in files if file.id.startswith("results/tiny/")} >= {
        "benchmarks",
        "config.yaml",
        "evaluations",
        "figures",
        "logs",
        "provenance.json",
        "tables",
        "thresholds",
    }
    for file in files:
        path = unpacked / file.id
        assert file["sha256"] == sha256_of(path) and int(file["contentSize"]) == path.stat().st_size
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=unpacked, check=False)
    assert done.returncode == 0


def restore(archive, folder):
    script = ROOT / "workflow_scripts/restore_study.py"
    told = subprocess.run([sys.executable, script, archive], cwd=folder, capture_output=True, text=True)
    return told.returncode, told.stdout + told.stderr


def test_tables_and_figures_are_made_again_without_a_model(archive, finished_study, tmp_path):
    _, workflow = finished_study
    code, told = restore(archive, tmp_path)
    assert code == 0 and "results/tiny/config.yaml" in told
    made = {
        path: path.read_bytes()
        for folder in ("tables", "figures")
        for path in (tmp_path / "results/tiny" / folder).iterdir()
        # Times of jobs are measured anew each time.
        if path.stem != "time_memory"
    }
    for path in made:
        path.unlink()
    assert not any((tmp_path / name).exists() for name in ("model", "resources", "facts.jsonl"))
    (tmp_path / "config.yaml").symlink_to("results/tiny/config.yaml")
    printed = run(tmp_path, "tables", "figures", workflow=workflow).stdout
    assert "Fetching" not in printed and "Perplexity of" not in printed
    assert {path: path.read_bytes() for path in made} == made


def test_a_restored_study_is_finished_where_its_models_are_newer(archive, finished_study, tmp_path):
    study, workflow = finished_study
    # Fetched here after the study was made there.
    for source in study.iterdir():
        if source.name in ("model", "resources"):
            shutil.copytree(source, tmp_path / source.name)
        elif source.suffix == ".jsonl":
            shutil.copy(source, tmp_path / source.name)
    fetched = time.time() - 60
    for path in tmp_path.rglob("*"):
        os.utime(path, (fetched, fetched + ("resources" in path.parts)))
    members = zipfile.ZipFile(archive).infolist()
    assert all(time.mktime((*member.date_time, 0, 0, -1)) < time.time() for member in members)
    assert restore(archive, tmp_path)[0] == 0
    (tmp_path / "config.yaml").symlink_to("results/tiny/config.yaml")
    printed = run(tmp_path, "tables", "figures", "--dry-run", workflow=workflow).stdout
    assert "Nothing to be done" in printed, printed[-5000:]


def test_files_in_an_archive_keep_their_dates(archive, finished_study):
    study, _ = finished_study
    for member in zipfile.ZipFile(archive).infolist():
        if member.filename.startswith("results/tiny/") and not member.is_dir():
            written = time.localtime((study / member.filename).stat().st_mtime)
            assert member.date_time[:5] == written[:5] and abs(member.date_time[5] - written[5]) <= 1


def test_a_damaged_archive_and_a_study_that_is_there_are_refused(archive, tmp_path):
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(damaged, "w") as copy:
        for member in whole.infolist():
            content = whole.read(member)
            copy.writestr(member, content + b" " if member.filename.endswith("config.yaml") else content)
    code, told = restore(damaged, tmp_path)
    assert code == 1 and "config.yaml in the archive is damaged" in told
    assert not (tmp_path / "results").exists()
    assert restore(archive, tmp_path)[0] == 0
    code, told = restore(archive, tmp_path)
    assert code == 1 and "results/tiny is there already" in told
    (tmp_path / "no.zip").write_bytes(b"PK")
    code, told = restore(tmp_path / "no.zip", tmp_path)
    assert code == 1 and "Traceback" not in told


def test_comparison_says_that_the_model_was_not_published(finished_study):
    with (finished_study[0] / "results/tiny/tables/fidelity.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    verdicts = {row["verdict"] for row in rows}
    assert verdicts == {"not comparable", "not published"}
    assert all(row["reason"] for row in rows if row["verdict"] == "not comparable")


def test_provenance_names_every_result_file_and_has_the_config(finished_study):
    study, _ = finished_study
    config = yaml.safe_load((study / "results/tiny/config.yaml").read_text())
    assert config["experiments"] == CONFIG["experiments"]
    told = json.loads((study / "results/tiny/provenance.json").read_text())["results"]
    files = {str(path.relative_to(study)) for path in study.glob("results/tiny/evaluations/*/*/*.json")}
    assert set(told) == files
    assert all(about["sha256"] == sha256_of(study / name) for name, about in told.items())
