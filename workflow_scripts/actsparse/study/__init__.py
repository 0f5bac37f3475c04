"""A study: its config, validated, with the grid of experiments expanded. Imports no torch."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from actsparse.study.checks import check_references
from actsparse.study.grid import Experiment, codebook_slug, expand
from actsparse.study.schema import ConfigError, validate

__all__ = ["ConfigError", "Experiment", "Study", "load_study"]


@dataclass(frozen=True)
class Study:
    """A validated config (defaults filled in) and the experiments it expands to, by slug."""

    config: dict[str, Any]
    experiments: dict[str, Experiment]

    @property
    def name(self) -> str:
        return self.config["study"]

    @property
    def benchmarks(self) -> list[str]:
        """What each experiment is evaluated on."""
        return [benchmark for benchmark in ("perplexity", "zero_shot") if benchmark in self.config]

    @cached_property
    def codebooks(self) -> dict[str, dict[str, Any]]:
        """The parameters of each codebook that some experiment needs, by its slug."""
        needed = [e.params for e in self.experiments.values() if e.method == "codebook"]
        return {codebook_slug(params): params for params in needed}

    @property
    def routers(self) -> dict[str, dict[str, Any]]:
        """The parameters of the routers that some experiment needs, by their slug, with their codebook's."""
        return {
            e.router: e.params | {"codebook": e.codebook, "projections": e.routed}
            for e in self.experiments.values()
            if e.router
        }


def load_study(config: dict[str, Any], schema: str | Path, root: str | Path = ".") -> Study:
    """Validate a raw config, fill in defaults, expand the grid.

    `root` is where relative paths and fetched resources are looked up. Raises ConfigError: one line that
    names the key, the value and what is allowed.
    """
    config, methods = validate(config, schema)
    experiments = expand(config["experiments"], methods)
    check_references(config, experiments, Path(root))
    return Study(config, experiments)
