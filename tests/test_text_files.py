"""Texts that are not what they should be are refused with file and place; compressed ones are read."""

import bz2
import gzip
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest
from actsparse.errors import ConfigError
from actsparse.resources.corpora import fetch_corpus, read_texts
from actsparse.study.loading import load_study
from tiny_study import CONFIG, ROOT, make_study

REFUSED = {
    # name, bytes, the whole message
    "Latin-1": ("a.txt", b"one\ncaf\xe9 ", "a.txt: is not UTF-8 (byte 0xe9 at 7); convert it"),
    "UTF-16": ("a.txt", "one".encode("utf-16"), "a.txt: is not UTF-8 (it begins with the mark of UTF-16)"),
    "UTF-32": ("a.jsonl", "{}".encode("utf-32"), "a.jsonl: is not UTF-8 (it begins with the mark of UTF-32)"),
    "UTF-16 without a mark": (
        "a.txt",
        "one\ntwo".encode("utf-16-le"),
        "a.txt: is not UTF-8 (byte 0x00 at 1); convert it, for instance: iconv -f UTF-16LE -t UTF-8",
    ),
    "UTF-16, the other way round": (
        "a.jsonl",
        "{}".encode("utf-16-be"),
        "a.jsonl: is not UTF-8 (byte 0x00 at 0); convert it, for instance: iconv -f UTF-16BE -t UTF-8",
    ),
    "UTF-16 of Chinese": (
        "a.txt",
        "中文\n中".encode("utf-16-le"),
        "a.txt: is not UTF-8 (byte 0x87 at 2); convert it",
    ),
    "UTF-16, no zero in the first line": (
        "a.txt",
        "䅁\n䅁".encode("utf-16-le"),
        "a.txt: is not UTF-8 (byte 0x00 at 3); convert it, for instance: iconv -f UTF-16LE -t UTF-8",
    ),
    "UTF-32 without a mark": (
        "a.txt",
        "one\n".encode("utf-32-le"),
        "a.txt: is not UTF-8 (byte 0x00 at 1); convert it, for instance: iconv -f UTF-32LE -t UTF-8",
    ),
    "UTF-32, the other way round": (
        "a.txt.gz",
        gzip.compress("on".encode("utf-32-be")),
        "a.txt.gz: is not UTF-8 (byte 0x00 at 0); convert it, for instance: iconv -f UTF-32BE -t UTF-8",
    ),
    "zstd": ("a.txt", b"\x28\xb5\x2f\xfdxx", "a.txt: is compressed (zstd); unpack it"),
    "gzip by another name": (
        "a.txt",
        gzip.compress(b"one"),
        "a.txt: is compressed by gzip; name it a.txt.gz",
    ),
    "half a gzip file": ("a.txt.gz", gzip.compress(b"one" * 99)[:-9], "a.txt.gz: is not a whole .gz file"),
    "null": (
        "a.jsonl",
        b'{"text": "x"}\n{"text": null}\n',
        "a.jsonl, line 2: 'text' is null, expected a text",
    ),
    "a number": ("a.jsonl", b'{"text": 3}\n', "a.jsonl, line 1: 'text' is int, expected a text"),
    "another column": (
        "a.jsonl",
        b'{"body": "x", "id": 1}\n',
        "a.jsonl, line 1: no JSON object with 'text'; it has body, id",
    ),
    "half a pair": (
        "a.jsonl",
        b'{"text": "ab\\ud83d"}\n',
        "a.jsonl, line 1: 'text' has half a surrogate pair (U+D83D) at character 2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_file_and_place(name, tmp_path):
    file, content, message = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError) as error:
        fetch_corpus({"train": str(tmp_path / file)}, "train", tmp_path / "c.parquet")
    assert str(error.value).startswith(message)
    assert not (tmp_path / "c.parquet").exists()


def test_a_null_in_parquet_is_refused(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x", None]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet, row 1: 'text' is null, expected a text"):
        fetch_corpus({"train": str(tmp_path / "a.parquet")}, "train", tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_compressed_texts_and_marks_of_utf8_are_read(tmp_path, suffix, pack):
    text = "\ufeffÆsop\r\n\r\nsecond\n"
    (tmp_path / f"a.txt.{suffix}").write_bytes(pack(text.encode()))
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(pack(json.dumps({"text": "Æsop"}).encode()))
    for name, texts in (("a.txt", ["Æsop", "second"]), ("a.jsonl", ["Æsop"])):
        fetch_corpus({"train": str(tmp_path / f"{name}.{suffix}")}, "train", tmp_path / f"{name}.parquet")
        assert read_texts(tmp_path / f"{name}.parquet") == texts


@pytest.mark.parametrize("use", ["perplexity", "calibration"])
def test_windows_longer_than_the_model_are_refused(use, tmp_path):
    study = make_study(tmp_path)  # its model has max_position_embeddings 512
    schema = ROOT / "rules/schemas/config.schema.yaml"
    load_study(CONFIG | {use: CONFIG[use] | {"sequence_length": 512}}, schema, study)
    with pytest.raises(
        ConfigError, match=rf"{use}\.sequence_length: windows of 513 tokens .* the 512 that llama"
    ):
        load_study(CONFIG | {use: CONFIG[use] | {"sequence_length": 513}}, schema, study)
