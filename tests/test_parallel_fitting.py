"""Several processes that share the patterns fit the codebook that one fits, to the last bit."""

import pytest
import torch
from actsparse.codebooks.parallel import spread
from fit_codebook import fit
from made_up_patterns import FIT, write_store, write_weighted_store

OPTIONS = {
    "coverage": {"seeding": "stratified", "validation": 0.2, "replace_below": 0.5, "warm_up": 2},
    "activation_aware": {"seeding": "kmeans++"},
    "spherical": {"replace_below": 0.5},
    "penalised": {"seed_sparsity": 0.3},
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    plain, weighted = (tmp_path_factory.mktemp(name) for name in ("plain", "weighted"))
    write_store(plain)
    write_weighted_store(weighted)
    return {"coverage": plain, "activation_aware": weighted, "spherical": weighted, "penalised": plain}


def work(folder, arguments):
    """Fit everything in this process group; the threads of a process must not matter either."""
    from actsparse.codebooks.parallel import processes
    from fit_codebook import fit_share

    number, of = processes()
    for name, (patterns, spec) in arguments.items():
        allocation = "by_energy" if spec["scope"] == "per_layer" else "uniform"
        fit_share(patterns, folder / f"{name}-{of}", 1 + number % 2, "cpu", allocation, None, spec)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_and_threads_do_not_matter(tmp_path, stores, count):
    arguments = {
        f"{algorithm}-{scope}": (
            stores[algorithm],
            FIT
            | {"algorithm": algorithm, "scope": scope, "patterns": 200, "clusters": 17, "options": options}
            | {"groups": 2 if scope == "per_layer" else 1},
        )
        for algorithm, options in OPTIONS.items()
        for scope in ("pooled", "per_layer")
    }
    work(tmp_path, arguments)
    spread(count, work, tmp_path, arguments)
    for name in arguments:
        assert (tmp_path / f"{name}-{count}").read_bytes() == (tmp_path / f"{name}-1").read_bytes(), name


def test_what_cannot_be_shared_is_fitted_by_one_process(tmp_path, stores):
    spec = FIT | {"scope": "pooled", "patterns": 90, "algorithm": "as_published"}
    for processes in (1, 2):
        fit(stores["coverage"], output=tmp_path / str(processes), threads=2, processes=processes, **spec)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_an_error_in_a_process_is_told_here(tmp_path, stores):
    spec = FIT | {"scope": "pooled", "patterns": 90, "clusters": 91}
    with pytest.raises(
        torch.multiprocessing.ProcessRaisedException, match="clusters: 91 is more than the 90"
    ):
        fit(stores["coverage"], output=tmp_path / "book", threads=1, processes=2, **spec)
