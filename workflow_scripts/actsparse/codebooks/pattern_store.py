"""Activation patterns on disk: bit-packed safetensors shards and a JSON manifest.

A folder holds `patterns_00000.safetensors`, ... (keys `{projection}.layer_{i}`, uint8 (tokens, ceil(D / 8))),
`active_counts.safetensors` (`{projection}`, int64 (layers, D): how many tokens each neuron is active for) and
`manifest.json`, written last: without it the folder is unfinished. Counts are over all tokens that the model
saw (`counted_tokens`), of which the patterns may be a part (`tokens`).

With magnitudes there are also `{projection}.layer_{i}.magnitudes` (tokens, D), zero where a neuron is
inactive, and `{projection}.logs`, float64 (layers), the sums of their logarithms. They are bfloat16, or
uint8 codes: the root of a magnitude over the root of its row's largest, because magnitudes span decades;
`{projection}.layer_{i}.largest`, float32 (tokens).

With values there are `{projection}.layer_{i}.values` (tokens, D), the outputs in the model's dtype.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from actsparse.codebooks.packing import pack, packed_width
from actsparse.jobs.files import digest_of, read_json, sha256_of, write_json

MANIFEST = "manifest.json"
ACTIVE_COUNTS = "active_counts.safetensors"
SHARD_BYTES = 2**28
MAGNITUDES = ("uint8", "bfloat16")
_LARGEST_CODE = 255


class PatternWriter:
    """Writes a pattern store while the model runs; holds one shard and what was added since, packed.

    Args:
        folder: made if it is missing; a store that lies there is replaced.
        identity: what the patterns belong to (model, thresholds and corpus digests, sparsity), as JSON.
        layers: number of layers.
        widths: neurons of each projection.
        shard_bytes: a shard is written as soon as it would hold this much.
        magnitudes: also store the magnitudes of active neurons, as one of MAGNITUDES.
        sequence_length: tokens of each sequence that is added, as far as it is known.
        values: also store the outputs themselves, of all neurons.
        kept: store only the patterns of these tokens, by their positions, int64, among those added to a
            site; all by default.

    As a context manager it closes the store unless an exception is raised.
    """

    def __init__(
        self,
        folder: str | Path,
        identity: dict[str, Any],
        layers: int,
        widths: dict[str, int],
        shard_bytes: int = SHARD_BYTES,
        magnitudes: str | None = None,
        kept: Tensor | None = None,
        sequence_length: int | None = None,
        values: bool = False,
    ) -> None:
        if magnitudes not in (None, *MAGNITUDES):
            raise ValueError(f"magnitudes: {magnitudes!r} is unknown (allowed: {', '.join(MAGNITUDES)})")
        self.folder, self.magnitudes, self.kept = Path(folder), magnitudes, kept
        self.sequence_length, self.values = sequence_length, values
        self.identity, self.layers, self.widths, self.shard_bytes = identity, layers, widths, shard_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in [self.folder / MANIFEST, *self.folder.glob("*.safetensors")]:
            old.unlink(missing_ok=True)
        self._sites = [(projection, layer) for projection in widths for layer in range(layers)]
        self._buffers: dict[str, Tensor] = {}
        self._rows: dict[str, int] = {}
        self._seen = dict.fromkeys(self._sites, 0)
        self._tokens = dict.fromkeys(self._sites, 0)
        self._bytes = 0
        self._shards: list[dict[str, Any]] = []
        self._active = {name: torch.zeros(layers, width, dtype=torch.int64) for name, width in widths.items()}
        if magnitudes:
            for name in widths:
                self._active[f"{name}.logs"] = torch.zeros(layers, dtype=torch.float64)

    def add(
        self,
        projection: str,
        layer: int,
        mask: Tensor,
        magnitudes: Tensor | None = None,
        values: Tensor | None = None,
    ) -> None:
        """Append the patterns of further tokens, bool (tokens, D), at one site; sites come in any order.

        A store with magnitudes, or values, takes those of all neurons, floating-point (tokens, D), and needs
        them.
        Raises ValueError when the site or the width is not one of the store's.
        """
        if (projection, layer) not in self._tokens or mask.shape[1:] != (self.widths[projection],):
            raise ValueError(f"patterns: no site {projection}.layer_{layer} of shape {tuple(mask.shape)}")
        key = f"{projection}.layer_{layer}"
        rows = self._rows_to_store((projection, layer), len(mask))
        packed = pack(mask[rows])
        self._append(key, packed)
        self._tokens[projection, layer] += len(packed)
        self._active[projection][layer] += mask.sum(0).cpu()
        if self.values:
            self._append(f"{key}.values", values[rows])
        if self.magnitudes:
            active = torch.where(mask, magnitudes.float(), 0)
            logs = active[active > 0].log().sum(dtype=torch.float64)
            self._active[f"{projection}.logs"][layer] += logs.cpu()
            if self.magnitudes == "bfloat16":
                self._append(f"{key}.magnitudes", active[rows].bfloat16())
            else:
                codes, largest = _encode(active[rows])
                self._append(f"{key}.magnitudes", codes)
                self._append(f"{key}.largest", largest)
        if self._bytes >= self.shard_bytes and len(set(self._tokens.values())) == 1:
            self._write_shard()

    def set_factors(self, factors: dict[str, Tensor]) -> None:
        """Store what magnitudes are multiplied by when they are read: positive (layers, D), by projection."""
        self._active |= {f"{name}.factors": rows.contiguous() for name, rows in factors.items()}

    def close(self) -> None:
        """Write what is left and the manifest.

        Raises ValueError when there are no tokens, or not the same number at each site.
        """
        counts = set(self._tokens.values())
        if len(counts) != 1 or counts == {0} or len(set(self._seen.values())) != 1:
            raise ValueError(f"{self.folder}: sites need the same number of tokens, above 0; got {counts}")
        if self._bytes:
            self._write_shard()
        self._save(ACTIVE_COUNTS, self._active)
        write_json(
            self.folder / MANIFEST,
            {
                "identity": self.identity,
                "tokens": counts.pop(),
                "counted_tokens": self._seen[self._sites[0]],
                "sequence_length": self.sequence_length,
                "layers": self.layers,
                "widths": self.widths,
                "magnitudes": self.magnitudes,
                "values": self.values,
                "shards": self._shards,
                "active": _description(self.folder / ACTIVE_COUNTS),
            },
        )

    def __enter__(self) -> "PatternWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()

    def _rows_to_store(self, site: tuple[str, int], count: int) -> Tensor | slice:
        """Return which of the next `count` tokens of a site are stored."""
        first = self._seen[site]
        self._seen[site] += count
        if self.kept is None:
            return slice(None)
        return self.kept[(self.kept >= first) & (self.kept < first + count)] - first

    def _append(self, key: str, tensor: Tensor) -> None:
        # One buffer a key, used again for every shard: small tensors kept between the large passing ones of
        # the model would scatter over the heap, so that it grew with the number of tokens.
        start = self._rows.get(key, 0)
        end = start + len(tensor)
        buffer = self._buffers.get(key)
        if buffer is None or end > len(buffer):
            grown = torch.empty(2 * end, *tensor.shape[1:], dtype=tensor.dtype)
            if start:
                grown[:start] = buffer[:start]
            self._buffers[key] = buffer = grown
        buffer[start:end] = tensor
        self._rows[key] = end
        self._bytes += tensor.nbytes

    def _write_shard(self) -> None:
        name = f"patterns_{len(self._shards):05d}.safetensors"
        tensors = {key: self._buffers[key][:rows] for key, rows in self._rows.items()}
        self._save(name, tensors)
        tokens = len(next(iter(tensors.values())))
        self._shards.append(_description(self.folder / name) | {"tokens": tokens})
        self._rows = {}
        self._bytes = 0

    def _save(self, name: str, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, self.folder / name, {"identity": digest_of(self.identity)})


class PatternStore:
    """Reads what `PatternWriter` wrote: `tokens`, `layers`, `widths`, `magnitudes`, `identity`.

    Raises FileNotFoundError when the folder has no manifest, and ValueError naming the file when one is
    missing, truncated, changed, or belongs to another identity (checked when it is first read).
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / MANIFEST).exists():
            raise FileNotFoundError(f"{self.folder}: no finished pattern store ({MANIFEST} is missing)")
        manifest = read_json(self.folder / MANIFEST)
        self.identity: dict[str, Any] = manifest["identity"]
        self.tokens: int = manifest["tokens"]
        self.counted_tokens: int = manifest["counted_tokens"]
        self.sequence_length: int | None = manifest.get("sequence_length")
        self.layers: int = manifest["layers"]
        self.widths: dict[str, int] = manifest["widths"]
        self.magnitudes: str | None = manifest["magnitudes"]
        self.values: bool = manifest.get("values", False)
        self._shards: list[dict[str, Any]] = manifest["shards"]
        self._active: dict[str, Any] = manifest["active"]
        self._checked: set[str] = set()

    def active_counts(self) -> dict[str, Tensor]:
        """Return, per projection, for how many tokens each neuron is active: int64 (layers, D)."""
        sums = load_file(self._check(self._active))
        return {name: sums[name] for name in self.widths}

    def magnitude_scales(self, projection: str) -> Tensor:
        """Return the geometric mean of each layer's active magnitudes over all tokens, float64 (layers).

        Unlike other means it hardly sees massive activations: a handful of neurons, in a handful of tokens,
        a thousand times the others. 1 for a layer that is never active. Raises ValueError when the store has
        no magnitudes.
        """
        self._need_magnitudes()
        sums = load_file(self._check(self._active))
        logs = sums[f"{projection}.logs"]
        if (factors := sums.get(f"{projection}.factors")) is not None:
            logs = logs + (sums[projection] * factors.double().log()).sum(1)
        return (logs / sums[projection].sum(1).clamp(min=1)).exp()

    def factors(self, projection: str) -> Tensor | None:
        """Return what the stored magnitudes are multiplied by, float32 (layers, D), if they are."""
        return load_file(self._check(self._active)).get(f"{projection}.factors")

    def token_positions(self, tokens: int | None = None) -> Tensor:
        """Return the positions, int64, of `tokens` evenly spaced tokens (all of them if None or too many)."""
        return evenly_spaced(self.tokens if tokens is None else tokens, self.tokens)

    def sequences(self, tokens: Tensor) -> Tensor:
        """Return which sequence of the text the tokens at these positions, int64, come from.

        One and the same where the store does not know how long sequences are.
        """
        length = self.sequence_length or self.counted_tokens
        return tokens * self.counted_tokens // self.tokens // length

    def blocks(
        self,
        projection: str,
        layers: Iterable[int] | None = None,
        tokens: int | Tensor | None = None,
        block_rows: int = 2**16,
        span: tuple[int, int] | None = None,
    ) -> Iterator[tuple[Tensor, int]]:
        """Stream a projection's patterns, shard by shard, layer by layer.

        Args:
            projection: one of `widths`.
            layers: those to read, all by default.
            tokens: read this many evenly spaced tokens, or those at these ascending positions, the same for
                each layer; all by default.
            block_rows: the largest number of patterns in a block.
            span: of the patterns that this would yield, only those from the first of these places on and
                before the second.

        Yields:
            Packed patterns, uint8 (at most block_rows, ceil(D / 8)), and their layer.

        Raises:
            ValueError: when a shard is not the one that was written; the message names it.
        """
        width = packed_width(self.widths[projection])
        for shard, opened, layer, rows in self._parts(layers, tokens, block_rows, span):
            patterns = opened.get_tensor(f"{projection}.layer_{layer}")
            if patterns.shape != (shard["tokens"], width):
                raise ValueError(f"{self.folder / shard['file']}: tokens or widths differ from {MANIFEST}")
            for some in rows:
                yield patterns if len(some) == len(patterns) else patterns.index_select(0, some), layer

    def magnitude_blocks(
        self,
        projection: str,
        layers: Iterable[int] | None = None,
        tokens: int | Tensor | None = None,
        block_rows: int = 2**14,
        span: tuple[int, int] | None = None,
    ) -> Iterator[tuple[Tensor, int]]:
        """Stream what belongs to `blocks` of the same arguments: magnitudes, float32 (rows, D), and layer.

        Raises ValueError as `blocks` does, and when the store has no magnitudes.
        """
        self._need_magnitudes()
        factors = self.factors(projection)
        for _, opened, layer, rows in self._parts(layers, tokens, block_rows, span):
            key = f"{projection}.layer_{layer}"
            stored = opened.get_tensor(f"{key}.magnitudes")
            largest = opened.get_tensor(f"{key}.largest") if self.magnitudes == "uint8" else None
            for some in rows:
                chosen = stored.index_select(0, some)
                magnitudes = chosen.float() if largest is None else _decode(chosen, largest[some])
                yield magnitudes if factors is None else magnitudes.mul_(factors[layer]), layer

    def value_blocks(
        self, projection: str, layers: Iterable[int] | None = None, tokens: int | Tensor | None = None
    ) -> Iterator[tuple[Tensor, int]]:
        """Stream what belongs to `blocks` of the same arguments: outputs, (rows, D), and layer.

        Raises ValueError as `blocks` does, and when the store has no values.
        """
        if not self.values:
            raise ValueError(f"{self.folder}: the patterns were stored without values")
        for _, opened, layer, rows in self._parts(layers, tokens, 2**14, None):
            stored = opened.get_tensor(f"{projection}.layer_{layer}.values")
            for some in rows:
                yield stored.index_select(0, some), layer

    def _parts(
        self,
        layers: Iterable[int] | None,
        tokens: int | Tensor | None,
        block_rows: int,
        span: tuple[int, int] | None,
    ) -> Iterator[tuple[dict[str, Any], Any, int, tuple[Tensor, ...]]]:
        """Yield, for each shard and layer: the shard, opened, the layer, blocks of its row numbers."""
        wanted = range(self.layers) if layers is None else list(layers)
        positions = tokens if isinstance(tokens, Tensor) else self.token_positions(tokens)
        begin, end = span or (0, len(positions) * len(wanted))
        first = passed = 0
        for shard in self._shards:
            inside = positions[(positions >= first) & (positions < first + shard["tokens"])] - first
            first += shard["tokens"]
            # Of each layer, the rows that lie in the span; a shard without any is not opened.
            parts = []
            for layer in wanted:
                rows = inside[max(0, begin - passed) : max(0, end - passed)]
                passed += len(inside)
                if len(rows):
                    parts.append((layer, rows))
            if parts:
                with safe_open(self._check(shard), "pt") as opened:
                    for layer, rows in parts:
                        yield shard, opened, layer, rows.split(block_rows)

    def _need_magnitudes(self) -> None:
        if self.magnitudes is None:
            raise ValueError(f"{self.folder}: the patterns were stored without magnitudes")

    def _check(self, description: dict[str, Any]) -> Path:
        """Return the path of a file once it is known to be the one that was written."""
        path = self.folder / description["file"]
        if description["file"] in self._checked:
            return path
        if not path.exists():
            raise ValueError(f"{path}: missing")
        if path.stat().st_size != description["bytes"]:
            raise ValueError(f"{path}: {path.stat().st_size} bytes instead of {description['bytes']}")
        try:
            with safe_open(path, "pt") as opened:
                identity = (opened.metadata() or {}).get("identity")
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from error
        if identity != digest_of(self.identity):
            raise ValueError(f"{path}: patterns of another model, thresholds or corpus")
        if sha256_of(path) != description["sha256"]:
            raise ValueError(f"{path}: changed since it was written (SHA-256 differs)")
        self._checked.add(description["file"])
        return path


def evenly_spaced(count: int, total: int) -> Tensor:
    """Return `count` evenly spaced positions of range(total), int64; all of them when there are no more."""
    count = min(count, total)
    return torch.arange(count) * total // max(count, 1)


def _encode(magnitudes: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes, uint8 (n, D), and each row's largest magnitude, float32 (n). Only 0 has code 0."""
    largest = magnitudes.amax(1)
    codes = (magnitudes / largest[:, None]).nan_to_num_(0).sqrt_().mul_(_LARGEST_CODE).round_()
    return torch.where(magnitudes > 0, codes.clamp_(min=1), 0).to(torch.uint8), largest


def _decode(codes: Tensor, largest: Tensor) -> Tensor:
    return (codes.float() / _LARGEST_CODE).square_().mul_(largest[:, None])


def _description(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
