"""A pattern store gives back what was written, and refuses what was not."""

import pytest
import torch
from actsparse.codebooks.chunks import Chunks
from actsparse.codebooks.packing import pack, unpack
from actsparse.codebooks.pattern_store import MANIFEST, PatternStore, PatternWriter, evenly_spaced
from actsparse.jobs.files import read_json
from safetensors.torch import load_file, save_file

WIDTHS = {"gate_proj": 21, "down_proj": 16}
LAYERS = 3
ROWS = ("binary", "magnitudes", "raw")
IDENTITY = {"model": "a" * 64, "thresholds": "b" * 64, "corpus": "c" * 64, "sparsity": 0.5}


def random_patterns(tokens):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(LAYERS, tokens, width, generator=generator) > 0.5 for name, width in WIDTHS.items()
    }


def write(folder, patterns, window=7, shard_bytes=300, identity=IDENTITY):
    tokens = patterns["gate_proj"].shape[1]
    with PatternWriter(folder, identity, LAYERS, WIDTHS, shard_bytes) as writer:
        for start in range(0, tokens, window):
            for layer in range(LAYERS):
                for name, masks in patterns.items():
                    writer.add(name, layer, masks[layer, start : start + window])
    return PatternStore(folder)


@pytest.fixture
def patterns():
    return random_patterns(50)


@pytest.fixture
def store(tmp_path, patterns):
    return write(tmp_path / "patterns", patterns)


def read(store, name, **which):
    blocks = [[] for _ in range(LAYERS)]
    for block, layer in store.blocks(name, **which):
        blocks[layer].append(unpack(block, WIDTHS[name]))
    return torch.stack([torch.cat(some) for some in blocks if some])


def test_reads_what_was_written(store, patterns):
    assert (store.tokens, store.layers, store.widths, store.identity) == (50, LAYERS, WIDTHS, IDENTITY)
    assert len(list(store.folder.glob("patterns_*"))) > 2
    for name, masks in patterns.items():
        assert torch.equal(read(store, name), masks)
        assert torch.equal(read(store, name, block_rows=2), masks)
        assert torch.equal(read(store, name, layers=[1]), masks[1:2])
        assert torch.equal(store.active_counts()[name], masks.sum(1))


@pytest.mark.parametrize("tokens", [1, 3, 7, 49, 50, 80])
def test_reads_evenly_spaced_tokens(store, patterns, tokens):
    count = min(tokens, 50)
    positions = [i * 50 // count for i in range(count)]
    assert torch.equal(read(store, "gate_proj", tokens=tokens), patterns["gate_proj"][:, positions])


@pytest.mark.parametrize("magnitudes", ["uint8", "bfloat16"])
def test_stores_some_tokens_and_counts_all(tmp_path, patterns, magnitudes):
    masks = patterns["gate_proj"][0]
    values = torch.rand(masks.shape, generator=torch.Generator().manual_seed(1)) + 0.1
    stores = []
    for name, kept in (("all", None), ("some", evenly_spaced(9, 50))):
        arguments = {"magnitudes": magnitudes, "kept": kept}
        with PatternWriter(tmp_path / name, IDENTITY, 1, {"gate_proj": 21}, **arguments) as writer:
            for some, magnitude in zip(masks.split(4), values.split(4), strict=True):
                writer.add("gate_proj", 0, some, magnitude)
        stores.append(PatternStore(tmp_path / name))
    whole, part = stores
    assert part.tokens == 9
    assert read_json(part.folder / MANIFEST)["counted_tokens"] == 50
    assert torch.equal(part.active_counts()["gate_proj"], whole.active_counts()["gate_proj"])
    assert torch.equal(part.magnitude_scales("gate_proj"), whole.magnitude_scales("gate_proj"))
    for method in ("blocks", "magnitude_blocks"):
        ((stored, _),) = getattr(part, method)("gate_proj")
        ((spaced, _),) = getattr(whole, method)("gate_proj", tokens=9)
        assert torch.equal(stored, spaced)


def test_memory_is_a_shard_and_a_window(tmp_path):
    with PatternWriter(tmp_path, IDENTITY, 1, {"gate_proj": 64}, shard_bytes=800) as writer:
        for _ in range(100):
            writer.add("gate_proj", 0, torch.ones(10, 64, dtype=torch.bool))
            assert writer._bytes < 800
    assert [shard["tokens"] for shard in read_json(tmp_path / MANIFEST)["shards"]] == [100] * 10


def test_same_patterns_same_bytes(tmp_path, patterns):
    for name in ("one", "two"):
        write(tmp_path / name, patterns)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_an_unfinished_store_is_refused(tmp_path, store, patterns):
    with pytest.raises(RuntimeError), PatternWriter(store.folder, IDENTITY, LAYERS, WIDTHS):
        raise RuntimeError("killed")
    with pytest.raises(FileNotFoundError, match=r"no finished pattern store \(manifest.json is missing\)"):
        PatternStore(store.folder)
    assert torch.equal(read(write(store.folder, patterns), "gate_proj"), patterns["gate_proj"])


def damaged(store, damage):
    path = store.folder / "patterns_00001.safetensors"
    damage(path)
    with pytest.raises(ValueError, match=f"^{path}: ") as error:
        list(PatternStore(store.folder).blocks("down_proj"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_damaged_shards_are_refused_by_name(store):
    path = store.folder / "patterns_00001.safetensors"
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    assert "SHA-256 differs" in damaged(store, lambda path: path.write_bytes(flipped))
    assert "bytes instead of" in damaged(store, lambda path: path.write_bytes(whole[:-9]))
    garbage = b"\xff" * len(whole)
    assert "not a safetensors file" in damaged(store, lambda path: path.write_bytes(garbage))
    assert "missing" in damaged(store, lambda path: path.unlink())


def test_foreign_shards_are_refused_by_name(tmp_path, store, patterns):
    other = write(tmp_path / "other", patterns, identity=IDENTITY | {"model": "d" * 64})
    foreign = other.folder / "patterns_00001.safetensors"
    assert "another model" in damaged(store, lambda path: path.write_bytes(foreign.read_bytes()))


def test_a_shard_without_identity_is_refused(store):
    def strip(path):
        tensors, size = load_file(path), path.stat().st_size
        for padding in range(200):
            save_file(tensors, path, {"i": "x" * padding})
            if path.stat().st_size >= size:
                return

    damaged(store, strip)


def test_wrong_sites_and_uneven_sites_are_refused(tmp_path):
    writer = PatternWriter(tmp_path, IDENTITY, LAYERS, WIDTHS)
    mask = torch.ones(4, 21, dtype=torch.bool)
    for site in (("up_proj", 0), ("gate_proj", LAYERS), ("down_proj", 0)):
        with pytest.raises(ValueError, match="patterns: no site"):
            writer.add(*site, mask)
    with pytest.raises(ValueError, match="same number of tokens"):
        writer.close()
    writer.add("gate_proj", 0, mask)
    with pytest.raises(ValueError, match="same number of tokens"):
        writer.close()


def test_packed_is_an_eighth(tmp_path):
    masks = torch.rand(LAYERS, 4096, 1536) > 0.5
    with PatternWriter(tmp_path, IDENTITY, LAYERS, {"gate_proj": 1536}) as writer:
        for layer in range(LAYERS):
            writer.add("gate_proj", layer, masks[layer])
    stored = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert stored < 1.03 * masks.nbytes / 8
    assert torch.equal(next(PatternStore(tmp_path).blocks("gate_proj"))[0], pack(masks[0]))


@pytest.mark.parametrize(("kind", "error"), [("uint8", 1 / 255), ("bfloat16", 2**-8)])
def test_magnitudes_come_back(tmp_path, kind, error):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(2, 40, 21, generator=generator).abs() ** 3
    masks = values > 0.2
    masks[0, 3] = False
    with PatternWriter(tmp_path, IDENTITY, 2, {"up_proj": 21}, 800, kind) as writer:
        for start in range(0, 40, 8):
            for layer in range(2):
                some = slice(start, start + 8)
                writer.add("up_proj", layer, masks[layer, some], values[layer, some])
    store = PatternStore(tmp_path)
    assert len(list(tmp_path.glob("patterns_*"))) > 1 and store.magnitudes == kind
    kept = torch.where(masks, values, 0)
    for tokens, block_rows in ((None, 2**14), (7, 2)):
        positions = store.token_positions(tokens)
        blocks = [[], []]
        for block, layer in store.magnitude_blocks("up_proj", tokens=tokens, block_rows=block_rows):
            blocks[layer].append(block)
        found, expected = torch.stack([torch.cat(some) for some in blocks]), kept[:, positions]
        assert torch.equal(found > 0, expected > 0)
        bound = error * (expected.amax(2, keepdim=True) * expected).sqrt() + error**2 * expected.amax(
            2, keepdim=True
        )
        assert ((found - expected).abs() <= bound + error * expected).all()
    scales = [values[layer][masks[layer]].double().log().mean().exp().item() for layer in range(2)]
    assert store.magnitude_scales("up_proj").tolist() == pytest.approx(scales)


def test_magnitudes_that_are_not_there(store, tmp_path):
    with pytest.raises(ValueError, match="stored without magnitudes"):
        next(store.magnitude_blocks("gate_proj"))
    with pytest.raises(ValueError, match=r"magnitudes: 'int4' is unknown \(allowed: uint8, bfloat16\)"):
        PatternWriter(tmp_path, IDENTITY, LAYERS, WIDTHS, magnitudes="int4")


def test_chunks_are_all_layers_of_a_sequence_of_the_kept_tokens(tmp_path):
    """Twelve tokens in sequences of four, every second one of them stored, in shards of two."""
    outputs = torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(0))
    layout = {"kept": torch.arange(0, 12, 2), "sequence_length": 4, "magnitudes": "bfloat16", "values": True}
    with PatternWriter(tmp_path, {}, 2, {"gate_proj": 16}, 8, **layout) as writer:
        for start in range(0, 12, 4):
            for layer in range(2):
                some = outputs[layer, start : start + 4]
                writer.add("gate_proj", layer, some.abs() > 0.5, some.abs(), some)
    store = PatternStore(tmp_path)
    for number, (plain, strong, raw) in enumerate(
        zip(*(Chunks(store, "gate_proj", [0, 1], torch.arange(6), rows) for rows in ROWS), strict=True)
    ):
        expected = torch.cat([outputs[layer, [4 * number, 4 * number + 2]] for layer in range(2)])
        mask = expected.abs() > 0.5
        for chunk, active in ((plain, mask), (strong, mask), (raw, expected > 0)):
            assert torch.equal(unpack(chunk.patterns, 16), mask)
            assert torch.equal(unpack(chunk.active, 16), active)
        assert plain.values is None and torch.equal(raw.values, expected)
        assert torch.equal(strong.values, (expected.abs() * mask).bfloat16().float())
    assert number == 2
    (second,) = Chunks(store, "gate_proj", [1], torch.tensor([2, 3]), "raw", (1, 2))
    assert torch.equal(second.values, outputs[1, [4, 6], 8:])
    assert torch.equal(unpack(second.patterns, 8), outputs[1, [4, 6], 8:].abs() > 0.5)
