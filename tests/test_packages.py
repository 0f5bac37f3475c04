"""Wheels made here, found by pip without any index."""

import hashlib
import zipfile

import pytest
from actsparse.resources.packages import download_wheel, extract_member, read_member, single_file
from actsparse.resources.sources import LocalPath, PackageFile

CONTENT = b"twenty-one bytes here" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def write_wheel(path, name, version, tag="py3-none-any"):
    """Write a wheel that pip accepts."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path / f"{name}-{version}-{tag}.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{name}/data.bin", CONTENT)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path / f"{name}-{version}-{tag}.whl"


@pytest.fixture
def links(tmp_path, monkeypatch):
    """A folder that pip takes for its only index."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@pytest.mark.parametrize(
    "tag", ["py3-none-any", "cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux2014_x86_64"]
)
def test_download(links, tmp_path, tag):
    made = write_wheel(links, "thing", "1.0", tag)
    write_wheel(links, "thing", "1.1", tag)
    download_wheel("thing", "1.0", tmp_path / "out" / "thing-1.0.whl")
    assert (tmp_path / "out" / "thing-1.0.whl").read_bytes() == made.read_bytes()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thing-1.0.whl"]


def test_other_platforms_wheels_do_not_count(links, tmp_path):
    write_wheel(links, "thing", "1.0", "cp313-cp313-macosx_14_0_arm64")
    with pytest.raises(
        ValueError, match=r"thing==1\.0: no wheel from the package index \(ERROR: No matching"
    ):
        download_wheel("thing", "1.0", tmp_path / "out" / "thing-1.0.whl")
    assert list((tmp_path / "out").iterdir()) == []


def test_truncated_wheel_is_not_kept(links, tmp_path):
    made = write_wheel(links, "thing", "1.0")
    made.write_bytes(made.read_bytes()[:-100])
    with pytest.raises(ValueError):
        download_wheel("thing", "1.0", tmp_path / "out" / "thing-1.0.whl")
    assert list((tmp_path / "out").iterdir()) == []


def test_damaged_member_is_refused(tmp_path):
    wheel = write_wheel(tmp_path, "thing", "1.0")
    damaged = bytearray(wheel.read_bytes())
    damaged[60] ^= 0xFF
    wheel.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"damaged wheel, cannot read thing/data\.bin"):
        read_member(wheel, "thing/data.bin")


def test_read_and_extract(tmp_path):
    wheel = write_wheel(tmp_path, "thing", "1.0")
    assert read_member(wheel, "thing/data.bin", SHA256) == CONTENT
    assert read_member(wheel, "thing/data.bin", SHA256.upper()) == CONTENT
    extract_member(wheel, "thing/data.bin", tmp_path / "out" / "data.bin", SHA256)
    assert (tmp_path / "out" / "data.bin").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data.bin"]


def test_wrong_checksum_names_file_expected_and_found(tmp_path):
    wheel = write_wheel(tmp_path, "thing", "1.0")
    with pytest.raises(ValueError) as error:
        extract_member(wheel, "thing/data.bin", tmp_path / "data.bin", "0" * 64)
    assert str(error.value) == f"{wheel}: thing/data.bin has SHA-256 {SHA256}, expected {'0' * 64}"
    assert not (tmp_path / "data.bin").exists()


@pytest.mark.parametrize("member", ["../evil", "a/../../evil", "/etc/passwd", "..\\evil", ""])
def test_members_that_leave_the_archive_are_refused(tmp_path, member):
    wheel = tmp_path / "evil-1.0.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../evil", b"x")
    with pytest.raises(ValueError, match="leaves the archive"):
        read_member(wheel, member)


def test_missing_member(tmp_path):
    wheel = write_wheel(tmp_path, "thing", "1.0")
    with pytest.raises(ValueError, match=r"has no member thing/other\.bin"):
        read_member(wheel, "thing/other.bin")


def test_single_file_from_a_wheel_is_gone_afterwards(tmp_path):
    wheel = write_wheel(tmp_path, "thing", "1.0")
    with single_file(PackageFile("thing", "1.0", "thing/data.bin"), wheel, SHA256) as path:
        assert path.name == "data.bin"
        assert path.read_bytes() == CONTENT
    assert not path.exists()


def test_single_local_file_is_checked(tmp_path):
    local = tmp_path / "data.bin"
    with pytest.raises(ValueError, match="no such file"), single_file(LocalPath(str(local)), None, None):
        pass
    local.write_bytes(CONTENT)
    with single_file(LocalPath(str(local)), None, SHA256) as path:
        assert path == local
    with pytest.raises(ValueError, match="expected 000"), single_file(LocalPath(str(local)), None, "0" * 64):
        pass
