"""What matters of a failed run stands last in the terminal."""

import os
import subprocess
import sys

import pytest
from actsparse.jobs.failures import failures
from tiny_study import ROOT, make_study, run


def test_logs_of_this_run_that_end_with_an_error(tmp_path):
    written = {
        "a/failed.log": "Fetching\nValueError: no such split\n\n",
        "a/fine.log": "ValueError: tried again\ndone\n",
        "b/old.log": "OSError: disk is full\n",
        "b/empty.log": "",
    }
    for name, text in written.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (100, 50 if "old" in name else 100))
    found = failures([f"{tmp_path}/a", f"{tmp_path}/b", f"{tmp_path}/none"], since=60)
    assert found == [f"{tmp_path}/a/failed.log: ValueError: no such split"]


def test_a_job_ends_its_log_with_its_error(tmp_path):
    job = "with log_to(sys.argv[1]):\n    print('at work')\n    raise ValueError('the text is empty')"
    code = f"import sys\nfrom actsparse.jobs.logs import log_to\n{job}"
    path = {"PYTHONPATH": str(ROOT / "workflow_scripts")}
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "job.log"], env=os.environ | path)
    assert done.returncode == 1
    assert failures([str(tmp_path)], since=0) == [f"{tmp_path}/job.log: ValueError: the text is empty"]


@pytest.mark.parametrize("quiet", [[], ["--quiet"], ["--quiet", "rules"]])
def test_the_reason_stands_last_in_the_terminal(tmp_path, quiet):
    study = make_study(tmp_path / "s")
    (study / "facts.jsonl").write_text('{"text": null}\n')
    told = run(study, *quiet, "--", "resources/corpora/facts/train.parquet", check=False)
    (log,) = study.glob("resources/logs/fetch_corpus/*/train.log")
    assert told.returncode == 1
    *_, last = told.stdout.splitlines()
    assert last.startswith(f"{log.relative_to(study)}: ValueError: facts.jsonl, line 1")
