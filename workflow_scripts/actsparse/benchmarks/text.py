"""Benchmarks that read windows of a text."""

from typing import Any

from actsparse.artifacts import Need
from actsparse.benchmarks.benchmark import Benchmark, Config


class OverText(Benchmark):
    """Its key in the config says which windows of which text, as `calibration` does."""

    def schema(self) -> dict[str, Any]:
        """Return the keys of windows."""
        return {"description": self.description, "$ref": "#/$defs/windows"}

    def reads(self, config: Config) -> dict[str, Need]:
        """Return the windows."""
        return {"windows": Need("windows", self.word)}

    def options(self, config: Config, model: str) -> dict[str, Any]:
        """Return nothing: the windows are as asked for."""
        return {}

    def tokens_at_once(self, config: Config) -> int:
        """Return a window."""
        return config[self.word]["sequence_length"]
