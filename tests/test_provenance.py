"""Digests of source code: what they notice, and what they leave alone."""

from pathlib import Path

import pytest
from actsparse.jobs import provenance
from actsparse.jobs.provenance import source_digest

SCRIPTS = Path(__file__).parent.parent / "workflow_scripts"


@pytest.fixture
def library(tmp_path, monkeypatch):
    folder = tmp_path / "actsparse"
    folder.mkdir()
    (folder / "masks.py").write_text('"""Masks."""\n\ndef mask():\n    """Keep."""\n    return 1\n')
    (folder / "fit.py").write_text("from actsparse.masks import mask\n\nprint(mask())\n")
    (folder / "other.py").write_text("x = 1\n")
    (tmp_path / "script.py").write_text("from actsparse import fit\n")
    monkeypatch.setattr(provenance, "LIBRARY", folder)
    for function in (provenance._imports, provenance._code):
        function.cache_clear()
    yield folder
    for function in (provenance._imports, provenance._code):
        function.cache_clear()


def digest_after(edit, library, modules=()):
    for function in (provenance._imports, provenance._code):
        function.cache_clear()
    before = source_digest(library.parent / "script.py", modules)
    edit()
    for function in (provenance._imports, provenance._code):
        function.cache_clear()
    return before != source_digest(library.parent / "script.py", modules)


def rewrite(path, old, new):
    return lambda: path.write_text(path.read_text().replace(old, new))


def test_notices_an_edit_of_what_is_imported_indirectly(library):
    assert digest_after(rewrite(library / "masks.py", "return 1", "return 2"), library)


def test_notices_an_edit_of_a_named_module(library):
    assert digest_after(rewrite(library / "other.py", "x = 1", "x = 2"), library, ["actsparse.other"])


def test_leaves_alone_what_is_not_imported(library):
    assert not digest_after(rewrite(library / "other.py", "x = 1", "x = 2"), library)


def test_leaves_alone_docstrings_and_comments(library):
    assert not digest_after(rewrite(library / "masks.py", "Keep.", "Keep the best."), library)
    assert not digest_after(rewrite(library / "masks.py", "    return 1", "    # why\n    return 1"), library)


def test_tables_do_not_depend_on_models():
    assert not any("sparsify" in str(path) for path in reached("collate_tables.py"))


def test_codebooks_do_not_depend_on_n_of_m():
    assert not any("n_of_m" in str(path) for path in reached("fit_codebook.py"))


def reached(script):
    pending, found = [SCRIPTS / script], set()
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending.extend(provenance._imports(path))
    assert len(found) > 2
    return found
