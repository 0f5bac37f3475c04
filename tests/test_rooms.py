"""The tree keeps its rooms: who imports whom, where a word is written, what is drawn from one table."""

import ast
import re
from pathlib import Path

import pytest
from actsparse.artifacts import ARTIFACTS
from actsparse.benchmarks import BENCHMARKS
from actsparse.kinds import KINDS
from document_artifacts import PAGES, table

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "workflow_scripts/actsparse"

# Each room may import those after it.
ROOMS = (
    "report",
    "study",
    "kinds",
    "benchmarks",
    "evaluation",
    "codebooks",
    "calibration",
    "methods",
    "models",
    "kernels",
    "resources",
    "jobs",
)


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports anywhere but for its annotations."""
    found, nodes = set(), [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("actsparse."):
            found.add(node.module.split(".")[1])
    return found & set(ROOMS)


def test_every_folder_is_a_room():
    folders = {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    allowed = set(ROOMS[ROOMS.index(room) :])
    for path in (LIBRARY / room).rglob("*.py"):
        above = imported_rooms(path) - allowed
        assert not above, f"{path.relative_to(LIBRARY)} imports {', '.join(above)}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_who_may_import_whom(room):
    first = (LIBRARY / room / "__init__.py").read_text().splitlines()[0]
    assert first.startswith('"""') and "import" in first.lower()


# The words of kinds and benchmarks outside their own files, each with a reason beside it.
EXCEPTIONS = {
    "workflow_scripts/actsparse/artifacts.py",
    "workflow_scripts/actsparse/report/figures/codebook_size.py",
    "workflow_scripts/actsparse/methods/patterns/threshold.py",
    "workflow_scripts/actsparse/kinds/codebook.py",
    "workflow_scripts/actsparse/benchmarks/zero_shot.py",
}


def test_a_word_is_written_in_its_own_file():
    own = {
        word: f"{room}/{word}.py"
        for room, words in (("kinds", KINDS), ("benchmarks", BENCHMARKS))
        for word in words
    }
    del own["dense"]  # a word of every day, of models that nothing prunes
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk"), *(ROOT / "workflow_scripts").rglob("*.py")]
    found = [
        (str(path.relative_to(ROOT)), word)
        for path in files
        for word in re.findall(rf"""["']({"|".join(own)})["']""", path.read_text())
        # A key of the config that is spelled as a kind is another thing.
        if not str(path).endswith(own[word]) and word not in getattr(KINDS.get(path.stem), "keys", ())
    ]
    assert {path for path, _ in found} == EXCEPTIONS


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_of_files_are_drawn_from_the_artifacts(page):
    assert table() in (ROOT / page).read_text(), "run `python workflow_scripts/document_artifacts.py`"


LINKS = {
    '"resources/models/{model}.json"',
    '"resources/corpora/{corpus}/{split}.parquet"',
    '"resources/tasks/{provider}/{task}"',
}


def test_rules_name_artifacts_not_paths():
    for path in (ROOT / "rules").glob("*.smk"):
        written = re.findall(
            r'f?"(?:\{RESULTS\}|resources)/(?!logs|benchmarks|packages/)[^"]*"', path.read_text()
        )
        assert set(written) <= LINKS, path.name


def test_every_artifact_has_the_rules_that_it_names():
    rules = set(
        re.findall(r"^rule (\w+):", "\n".join(p.read_text() for p in (ROOT / "rules").glob("*.smk")), re.M)
    )
    for name, artifact in ARTIFACTS.items():
        assert set(artifact.rules) <= rules, name
