"""Codebook files, ours and the artifact's: whole, the same each time, or refused by name."""

import pytest
import torch
from actsparse.codebooks.artifact import file_name, read_centroids, write_centroids
from actsparse.codebooks.codebook import load_codebooks, save_codebooks
from actsparse.codebooks.fit import fit_codebook
from made_up_patterns import FIT, WIDTHS, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("patterns"))


def test_files_round_trip_and_broken_ones_are_refused(tmp_path, store):
    codebooks = {name: fit_codebook(store, name, **FIT, scope="per_layer", patterns=90) for name in WIDTHS}
    path = tmp_path / "codebook.safetensors"
    save_codebooks(path, codebooks, FIT)
    loaded, spec = load_codebooks(path)
    assert spec == FIT
    for name, codebook in codebooks.items():
        assert torch.equal(loaded[name].centroids, codebook.centroids)
        assert torch.equal(loaded[name].baseline, codebook.baseline)
        assert (loaded[name].width, loaded[name].objective) == (codebook.width, codebook.objective)
    first = path.read_bytes()
    save_codebooks(path, codebooks, FIT)
    assert path.read_bytes() == first
    for broken in (first[:-5], first[:50], b"", b"not a codebook, but long enough to look like one"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=f"^{path}: not a whole codebook file"):
            load_codebooks(path)


def test_the_script_fits_every_projection(tmp_path, store):
    fit = __import__("fit_codebook").fit
    for name in ("one", "two"):
        fit(store.folder, scope="pooled", patterns=90, output=tmp_path / name, threads=1, **FIT)
    codebooks, spec = load_codebooks(tmp_path / "one")
    assert set(codebooks) == set(WIDTHS)
    assert spec["fitted_patterns"] == 90 and spec["scope"] == "pooled"
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_layout_of_the_artifact_round_trips(tmp_path, store):
    codebook = fit_codebook(store, "gate_proj", **FIT, scope="pooled", patterns=90)
    path = tmp_path / file_name("gate_proj", codebook)
    assert path.name == "centroids_gate_6_sparsity_40.pt"
    write_centroids(codebook, path)
    matrix = torch.load(path, weights_only=True)
    assert matrix.dtype == torch.float32 and matrix.shape == (6, 70) and matrix.sum(1).eq(42).all()
    back = read_centroids(path)
    assert torch.equal(back.centroids, codebook.centroids) and back.width == 70 and back.baseline is None
    save_codebooks(tmp_path / "ours", {"gate_proj": back}, {})
    assert torch.equal(load_codebooks(tmp_path / "ours")[0]["gate_proj"].centroids, codebook.centroids)
    layered = fit_codebook(store, "gate_proj", **FIT, scope="per_layer", patterns=90)
    with pytest.raises(ValueError, match="pooled codebooks without groups only"):
        write_centroids(layered, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.full((2, 3), 0.5), "expected centroids of zeros and ones"),
        (torch.ones(3), "expected a matrix of centroids"),
        ({"a": torch.ones(2, 2)}, "expected a matrix of centroids"),
        (fit_codebook, "not a file of tensors"),
    ],
)
def test_foreign_centroids_are_refused(tmp_path, content, message):
    path = tmp_path / "centroids.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message) as error:
        read_centroids(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
