"""What a benchmark measures: a model, the scheme of an experiment, and the files that it reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from actsparse.methods.sparsify import Applied, Scheme, sparsify
from actsparse.models.loading import load_tokenizer


@dataclass
class Run:
    """One measurement.

    model: the dense model on its device.
    scheme: what `sparse` applies to it; None for nothing.
    files: what the benchmark reads, by name.
    options: what it has to know of the config.
    first_windows: how many windows of a text count, the first ones; None for all.
    batch_size: sequences at once, where the benchmark has batches.
    """

    model: nn.Module
    scheme: Scheme | None
    files: dict[str, Any]
    options: dict[str, Any]
    first_windows: int | None
    batch_size: int
    manifest: Path
    trust_remote_code: bool = False
    applied: Applied | None = None

    @contextmanager
    def sparse(self) -> Iterator[nn.Module]:
        """Yield the model with the scheme at work; what it does is counted. Outside, the model is dense."""
        with sparsify(self.model, self.scheme) as self.applied:
            yield self.model

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return load_tokenizer(self.manifest, self.trust_remote_code)
