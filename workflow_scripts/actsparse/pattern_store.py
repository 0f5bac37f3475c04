"""Activation patterns on disk: bit-packed safetensors shards and a JSON manifest.

A folder holds `patterns_00000.safetensors`, ... (keys `{projection}.layer_{i}`, uint8 (tokens, ceil(D / 8))),
`active_counts.safetensors` (`{projection}`, int64 (layers, D): how many tokens each neuron is active for) and
`manifest.json`, written last: without it the folder is unfinished.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from actsparse.files import digest_of, read_json, sha256_of, write_json
from actsparse.packing import pack, packed_width

MANIFEST = "manifest.json"
ACTIVE_COUNTS = "active_counts.safetensors"
SHARD_BYTES = 2**28


class PatternWriter:
    """Writes a pattern store while the model runs; holds one shard and what was added since, packed.

    Args:
        folder: made if it is missing; a store that lies there is replaced.
        identity: what the patterns belong to (model, thresholds and corpus digests, sparsity), as JSON.
        layers: number of layers.
        widths: neurons of each projection.
        shard_bytes: a shard is written as soon as it would hold this much.

    As a context manager it closes the store unless an exception is raised.
    """

    def __init__(
        self,
        folder: str | Path,
        identity: dict[str, Any],
        layers: int,
        widths: dict[str, int],
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder = Path(folder)
        self.identity, self.layers, self.widths, self.shard_bytes = identity, layers, widths, shard_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in [self.folder / MANIFEST, *self.folder.glob("*.safetensors")]:
            old.unlink(missing_ok=True)
        self._sites = [(projection, layer) for projection in widths for layer in range(layers)]
        self._waiting: dict[tuple[str, int], list[Tensor]] = {site: [] for site in self._sites}
        self._tokens = dict.fromkeys(self._sites, 0)
        self._bytes = 0
        self._shards: list[dict[str, Any]] = []
        self._active = {name: torch.zeros(layers, width, dtype=torch.int64) for name, width in widths.items()}

    def add(self, projection: str, layer: int, mask: Tensor) -> None:
        """Append the patterns of further tokens, bool (tokens, D), at one site; sites come in any order.

        Raises ValueError when the site or the width is not one of the store's.
        """
        if (projection, layer) not in self._waiting or mask.shape[1:] != (self.widths[projection],):
            raise ValueError(f"patterns: no site {projection}.layer_{layer} of shape {tuple(mask.shape)}")
        packed = pack(mask).cpu()
        self._waiting[projection, layer].append(packed)
        self._tokens[projection, layer] += len(packed)
        self._bytes += packed.nbytes
        self._active[projection][layer] += mask.sum(0).cpu()
        if self._bytes >= self.shard_bytes and len(set(self._tokens.values())) == 1:
            self._write_shard()

    def close(self) -> None:
        """Write what is left and the manifest.

        Raises ValueError when there are no tokens, or not the same number at each site.
        """
        counts = set(self._tokens.values())
        if len(counts) != 1 or counts == {0}:
            raise ValueError(f"{self.folder}: sites need the same number of tokens, above 0; got {counts}")
        if self._bytes:
            self._write_shard()
        self._save(ACTIVE_COUNTS, self._active)
        write_json(
            self.folder / MANIFEST,
            {
                "identity": self.identity,
                "tokens": counts.pop(),
                "layers": self.layers,
                "widths": self.widths,
                "shards": self._shards,
                "active": _description(self.folder / ACTIVE_COUNTS),
            },
        )

    def __enter__(self) -> "PatternWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()

    def _write_shard(self) -> None:
        name = f"patterns_{len(self._shards):05d}.safetensors"
        tensors = {f"{site[0]}.layer_{site[1]}": torch.cat(parts) for site, parts in self._waiting.items()}
        self._save(name, tensors)
        tokens = len(next(iter(tensors.values())))
        self._shards.append(_description(self.folder / name) | {"tokens": tokens})
        self._waiting = {site: [] for site in self._sites}
        self._bytes = 0

    def _save(self, name: str, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, self.folder / name, {"identity": digest_of(self.identity)})


class PatternStore:
    """Reads what `PatternWriter` wrote: `tokens`, `layers`, `widths`, `identity`.

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
        self.layers: int = manifest["layers"]
        self.widths: dict[str, int] = manifest["widths"]
        self._shards: list[dict[str, Any]] = manifest["shards"]
        self._active: dict[str, Any] = manifest["active"]
        self._checked: set[str] = set()

    def active_counts(self) -> dict[str, Tensor]:
        """Return, per projection, for how many tokens each neuron is active: int64 (layers, D)."""
        return load_file(self._check(self._active))

    def token_positions(self, tokens: int | None = None) -> Tensor:
        """Return the positions, int64, of `tokens` evenly spaced tokens (all of them if None or too many)."""
        count = self.tokens if tokens is None else min(tokens, self.tokens)
        return torch.arange(count) * self.tokens // max(count, 1)

    def blocks(
        self,
        projection: str,
        layers: Iterable[int] | None = None,
        tokens: int | None = None,
        block_rows: int = 2**16,
    ) -> Iterator[tuple[Tensor, int]]:
        """Stream a projection's patterns, shard by shard, layer by layer.

        Args:
            projection: one of `widths`.
            layers: those to read, all by default.
            tokens: read this many evenly spaced tokens, the same for each layer; all by default.
            block_rows: the largest number of patterns in a block.

        Yields:
            Packed patterns, uint8 (at most block_rows, ceil(D / 8)), and their layer.

        Raises:
            ValueError: when a shard is not the one that was written; the message names it.
        """
        wanted = range(self.layers) if layers is None else list(layers)
        positions = self.token_positions(tokens)
        first = 0
        for shard in self._shards:
            inside = positions[(positions >= first) & (positions < first + shard["tokens"])] - first
            first += shard["tokens"]
            if not len(inside):
                continue
            with safe_open(self._check(shard), "pt") as opened:
                for layer in wanted:
                    patterns = opened.get_tensor(f"{projection}.layer_{layer}")
                    if patterns.shape != (shard["tokens"], packed_width(self.widths[projection])):
                        raise ValueError(
                            f"{self.folder / shard['file']}: tokens or widths differ from {MANIFEST}"
                        )
                    for some in inside.split(block_rows):
                        whole = len(some) == len(patterns)
                        yield patterns if whole else patterns.index_select(0, some), layer

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


def _description(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
