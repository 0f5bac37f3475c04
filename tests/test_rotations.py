"""Rotations: orthogonal, exact where nothing is pruned, and what they gather, against definitions."""

import pytest
import torch
from actsparse.calibration.rotations import measure_axes
from actsparse.calibration.second_moments import second_moments
from actsparse.kinds.prune_activations import PruneActivations
from actsparse.methods.building import with_options
from actsparse.methods.combinations import rotation_refusal
from actsparse.methods.execute import execute
from actsparse.methods.execution.refusal import CannotExecute
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.n_of_m import NOfM
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.per_site import save_per_site
from actsparse.methods.rotations import ROTATIONS
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.scorers.wina import Wina
from actsparse.methods.sparsify import Scheme, prune, sparsify
from actsparse.models.layerwise import walk_layers
from actsparse.models.sites import find_sites
from naive import best
from tiny_models import CONFIGS, load_tiny_model, save_tiny_model, token_windows

ANY = [".*"]
IDS = token_windows(2, 9)
WINDOWS = token_windows(3, 20)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    loaded = {}

    def load(architecture):
        if architecture not in loaded:
            folder = save_tiny_model(architecture, tmp_path_factory.mktemp(architecture))
            loaded[architecture] = load_tiny_model(folder).double()
        return loaded[architecture]

    return load


def built(word, model, pattern):
    return with_options(
        ROTATIONS[word].load(), {"rotations": measure_axes(model, WINDOWS, ANY), "pattern": pattern}
    )


def scheme(word, model, pattern, scorer=None):
    return Scheme(
        "input", (".*",), scorer or Magnitude(), pattern, NoMitigation(), rotation=built(word, model, pattern)
    )


@pytest.mark.parametrize("word", ROTATIONS)
@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_nothing_pruned_nothing_changed(models, architecture, word):
    model = models(architecture)
    with torch.inference_mode():
        dense = model(IDS).logits
        with sparsify(model, scheme(word, model, TopK(0.0))) as applied:
            turned = model(IDS).logits
    torch.testing.assert_close(turned, dense, rtol=1e-5, atol=1e-5)  # measured axes are float32
    assert applied.realised_sparsity == 0


@pytest.mark.parametrize("word", ROTATIONS)
def test_bases_are_orthogonal_and_of_what_blocks_read(models, word):
    model = models("qwen2")
    rotation = built(word, model, NOfM(2, 4))
    seen = set()
    for site in find_sites(model, ANY, "input"):
        basis = rotation.of(site, torch.zeros(1, dtype=torch.float64))
        if site.projection in ("o_proj", "down_proj"):
            assert basis is None
            continue
        torch.testing.assert_close(
            basis.T @ basis, torch.eye(site.width, dtype=torch.float64), rtol=0, atol=2e-6
        )
        seen.add(id(basis))
    assert len(seen) == 4  # two blocks in each of two layers


@torch.inference_mode()
def test_pruning_is_that_of_the_turned_input(models):
    model = models("qwen2")
    turned = scheme("eigenvectors", model, TopK(0.5))
    site = next(site for site in find_sites(model, ["q_proj"], "input"))
    x = torch.randn(2, 5, site.width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis = turned.rotation.of(site, x)
    z = x @ basis
    expected = torch.where(best(z.abs(), site.width // 2), z, 0) @ basis.T
    found = prune(x, site, turned)
    torch.testing.assert_close(found.values, expected)
    assert found.kept == 10 * (site.width // 2)


@torch.inference_mode()
def test_axes_are_those_of_the_second_moment(models):
    """Along them the moment is diagonal, and falls; no k channels of any basis hold more than the first k."""
    model = models("qwen2")
    axes = measure_axes(model, WINDOWS, ANY)
    seen: dict[str, list[torch.Tensor]] = {}
    handles = [
        layer.self_attn.q_proj.register_forward_pre_hook(
            lambda _, args, name=f"model.layers.{i}.self_attn": seen.setdefault(name, []).append(args[0][0])
        )
        for i, layer in enumerate(model.model.layers)
    ]
    for window in WINDOWS:
        model(window[None])
    for handle in handles:
        handle.remove()
    for name, rows in seen.items():
        x = torch.cat(rows).double()
        basis = axes[name]["axes"].double()
        moment = basis.T @ (x.T @ x) @ basis
        energy = moment.diagonal()
        assert (moment - torch.diag(energy)).abs().max() < 1e-5 * energy.max()
        assert (energy.diff() <= 1e-5 * energy.max()).all()


def test_n_of_m_groups_get_strong_and_weak_axes(models):
    """Of 48 axes in groups of 4, the first group gets numbers 0, 12, 24 and 36."""
    model = models("qwen2")
    site = next(site for site in find_sites(model, ["q_proj"], "input"))
    plain = built("eigenvectors", model, TopK(0.5)).basis(site)
    dealt = built("eigenvectors", model, NOfM(2, 4)).basis(site)
    torch.testing.assert_close(dealt[:, :4], plain[:, [0, 12, 24, 36]])
    torch.testing.assert_close(dealt[:, 4:8], plain[:, [1, 13, 25, 37]])


@torch.inference_mode()
def test_wina_ranks_by_the_turned_weights_columns(models):
    model = models("qwen2")
    turned = scheme("singular_vectors", model, TopK(0.5), Wina())
    sites = find_sites(model, ["k_proj", "v_proj"], "input")
    x = torch.randn(7, sites[0].width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for site in sites[:2]:
        basis = turned.rotation.of(site, x)
        columns = site.weight @ basis
        gram = columns.T @ columns
        orthogonal = (gram - torch.diag(gram.diagonal())).abs().max() < 1e-8 * gram.max()
        assert orthogonal == (site.projection == "k_proj")
        z = x @ basis
        scores = z.abs() * columns.norm(dim=0)
        expected = torch.where(best(scores, site.width // 2), z, 0) @ basis.T
        torch.testing.assert_close(prune(x, site, turned).values, expected)


def test_hadamard_of_48_is_three_times_that_of_16(models):
    model = models("qwen2")
    site = next(site for site in find_sites(model, ["q_proj"], "input"))
    basis = built("hadamard", model, TopK(0.5)).basis(site)
    signs = torch.tensor([[(-1.0) ** bin(i & j).count("1") for j in range(16)] for i in range(16)]) / 4
    torch.testing.assert_close(basis, torch.block_diag(signs, signs, signs).double())


def test_second_moments_are_shared_by_those_who_read_one_tensor(models):
    model = models("qwen2")
    stage = next(iter(walk_layers(model, WINDOWS)))
    attention = stage.layer.self_attn
    layers = [attention.q_proj, attention.k_proj, attention.o_proj]
    moments = second_moments(stage, layers, len(WINDOWS), torch.float64)
    assert moments[id(layers[0])] is moments[id(layers[1])]
    assert moments[id(layers[2])].shape == (attention.o_proj.in_features,) * 2


@pytest.mark.parametrize("scorer", ["magnitude", "random", "wina", "amber"])
def test_scorers_that_turn(scorer):
    assert rotation_refusal(scorer, "none") is None


@pytest.mark.parametrize(
    ("scorer", "mitigation", "why"),
    [
        ("clact", "none", "scorer clact knows the inputs' own channels only (allowed: amber, "),
        ("magnitude", "shift_static", "mitigation shift_static knows the inputs' own channels only"),
        ("magnitude", "scale_shift", "mitigation scale_shift knows the inputs' own channels only"),
    ],
)
def test_what_belongs_to_channels_does_not_turn(scorer, mitigation, why):
    said = rotation_refusal(scorer, mitigation)
    assert why in said and "wanda" not in said and "sparsegpt" not in said


def test_a_rotated_experiment_is_not_executed(models):
    model = models("qwen2")
    turned = scheme("hadamard", model, TopK(0.5))
    with pytest.raises(CannotExecute, match="rotation hadamard"), execute(model, turned):
        pass


def test_the_kind_builds_what_it_says(models, tmp_path):
    model = models("qwen2")
    kind = PruneActivations.of({"pattern": "2:4", "rotation": "eigenvectors"})
    assert set(kind.needs("x")) == {"rotations"}
    save_per_site(measure_axes(model, WINDOWS, ANY), tmp_path / "axes.safetensors")
    found = kind.build(rotations=tmp_path / "axes.safetensors")
    assert found.rotation.pattern == NOfM(2, 4)
    assert set(PruneActivations.of({"pattern": "2:4", "rotation": "hadamard"}).needs("x")) == set()
    assert not kind.is_plain and kind.series()[-1] == "eigenvectors"
