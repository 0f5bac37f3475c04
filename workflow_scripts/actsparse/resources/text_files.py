"""Text files as people have them: UTF-8, perhaps with a byte order mark, perhaps compressed."""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# What compressed files that are not read begin with.
OTHERS = {b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"7z\xbc\xaf\x27\x1c": "7z"}
# The longer ones first: UTF-32's begins with UTF-16's.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, unpacked where its name ends in .gz, .bz2 or .xz.

    Raises ValueError, naming the file, when it is damaged or compressed in another way.
    """
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            buffered = io.BufferedReader(file)
            start = buffered.peek(6)[:6]
            for magic, name in OTHERS.items():
                if start.startswith(magic):
                    raise ValueError(
                        f"{path.name}: is compressed ({name}); unpack it (.gz, .bz2, .xz are read)"
                    )
            if start.startswith(b"\x1f\x8b"):
                raise ValueError(f"{path.name}: is compressed by gzip; name it {path.name}.gz")
            yield buffered
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if path.suffix not in OPENERS:
            raise
        raise ValueError(f"{path.name}: is not a whole {path.suffix} file ({error})") from error


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, ends as \\n; a mark of UTF-8 at the start is no part of the text.

    Raises ValueError, with the byte where it happens and what to do, for any other encoding.
    """
    offset = 0
    with opened(path) as file:
        for number, line in enumerate(file):
            if number == 0:
                for mark, name in MARKS.items():
                    if line.startswith(mark):
                        raise ValueError(_other(path, f"it begins with the mark of {name}", name))
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"byte 0x{line[error.start]:02x} at {offset + error.start}"
                other = _unmarked(line, offset) if b"\0" in line else "ISO-8859-1"
                raise ValueError(_other(path, where, other)) from error
            if "\0" in text:
                where = f"byte 0x00 at {offset + line.index(0)}"
                raise ValueError(_other(path, where, _unmarked(line, offset)))
            offset += len(line)
            text = text.removeprefix("\ufeff") if number == 0 else text
            yield text.replace("\r\n", "\n")


def _unmarked(line: bytes, offset: int) -> str:
    """Return which encoding of two or four bytes a character has its zeros where a line at `offset` has."""
    first = offset + line.index(0)
    if line.count(0) > len(line) / 2:
        return "UTF-32LE" if first % 4 else "UTF-32BE"
    return "UTF-16LE" if first % 2 else "UTF-16BE"


def _other(path: Path, why: str, encoding: str) -> str:
    return f"{path.name}: is not UTF-8 ({why}); convert it, for instance: iconv -f {encoding} -t UTF-8"


def unpacked_suffix(path: Path) -> str:
    """Return the ending of a file's name without that of its compression."""
    return Path(path.stem).suffix if path.suffix in OPENERS else path.suffix
