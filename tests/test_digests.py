"""Every function that takes part in a result is in the digest that its job has."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest
from actsparse.benchmarks import BENCHMARKS
from actsparse.calibration.statistics import measure_statistics
from actsparse.evaluation.record import evaluate
from actsparse.jobs.provenance import source_code
from actsparse.kinds import KINDS
from actsparse.methods.per_site import save_per_site
from actsparse.methods.thresholds import save_thresholds
from actsparse.models.windows import save_windows
from tiny_models import load_tiny_model, save_tiny_model, token_windows

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "workflow_scripts/actsparse"
# What make_windows says of a text beside its windows.
TEXT = {"corpus": "c", "split": "test", "documents": 1, "of_documents": 1, "part_of_source": 1.0}
TEXT |= {"sequence_length": 16, "tokens": 32}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EXPERIMENTS = {
    "dense": {},
    "threshold": {"sparsity": 0.5},
    "prune_activations": {"pattern": "2:4", "scorer": "clact", "mitigation": "variance"},
    "prune_weights": {"pattern": 0.5, "scorer": "wanda"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    save_tiny_model("llama", folder / "model")
    model = load_tiny_model(folder / "model")
    save_per_site(measure_statistics(model, token_windows(2, 16), ALL), folder / "statistics")
    save_thresholds({word: {f"layer_{i}": 0.1 for i in range(2)} for word in ALL}, folder / "thresholds")
    save_windows(folder / "windows", token_windows(2, 16), TEXT)
    return folder


@cache
def functions(path: Path) -> dict[int, str]:
    """The text of each function of a file, without its docstring, by the lines it may begin on."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[first] = ast.unparse(ast.parse(ast.unparse(node)))
    return found


@pytest.mark.parametrize("word", EXPERIMENTS)
def test_every_function_that_runs_is_in_the_digest(word, files, tmp_path, monkeypatch):
    from actsparse.resources import models

    manifest = {"path": str(files / "model"), "digest": "d", "files": {}}
    monkeypatch.setattr(models, "verify_model", lambda path: manifest)
    monkeypatch.setattr("actsparse.models.loading.verify_model", lambda path: manifest)
    monkeypatch.setattr("actsparse.evaluation.record.read_json", lambda path: manifest)
    kind, benchmark = KINDS[word].of(EXPERIMENTS[word]), BENCHMARKS["perplexity"]
    needed = {name: files / name for name in kind.needs(word)}
    called = set()

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(LIBRARY):
            called.add((path, frame.f_code.co_firstlineno))

    sys.setprofile(note)
    try:
        evaluate(
            benchmark.measure,
            lambda: kind.build(**needed),
            model=files / "model.json",
            dtype="float32",
            trust_remote_code=False,
            device="cpu",
            about={},
            options={},
            first_windows=None,
            files={"windows": files / "windows"},
            scheme_files=needed,
            output=tmp_path / "result.json",
        )
    finally:
        sys.setprofile(None)
    covered = source_code(ROOT / "workflow_scripts/evaluate.py", (*benchmark.modules, *kind.modules))
    missing = {
        f"{path.relative_to(LIBRARY)}: {text.splitlines()[0]}"
        for path, line in called
        if (text := functions(path).get(line))  # lambdas and comprehensions stand inside functions
        and "".join(text.split()) not in "".join(covered.split())
    }
    # What an experiment says of itself is in its job's params.
    assert {name for name in missing if not name.startswith(("kinds/kind.py", "registry.py"))} == set()
    assert len(called) > 15
