"""A study: its config, validated, and the grid of its experiments."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from actsparse.artifacts import ARTIFACTS, Need
from actsparse.benchmarks import BENCHMARKS, Benchmark
from actsparse.errors import ConfigError
from actsparse.kinds.dense import Dense
from actsparse.study.checks import check_references
from actsparse.study.grid import Experiment, expand
from actsparse.study.schema import validate
from actsparse.study.yaml_traps import with_text_keys

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
    def benchmarks(self) -> dict[str, Benchmark]:
        """What each experiment is evaluated by."""
        return {word: benchmark for word, benchmark in BENCHMARKS.items() if word in self.config}

    @property
    def references(self) -> dict[str, str]:
        """{experiment: the one that it is compared with}, without what is compared with nothing."""
        dense = (slug for slug, experiment in self.experiments.items() if experiment.method == Dense.word)
        usual = self.config.get("reference") or next(dense, None)
        found = {slug: experiment.reference or usual for slug, experiment in self.experiments.items()}
        return {slug: other for slug, other in found.items() if other not in (None, slug)}

    @property
    def repeats(self) -> dict[str, str]:
        """{experiment: its name without the seed}, of those that differ in their seeds alone."""
        return {slug: found.repeats for slug, found in self.experiments.items() if found.repeats}

    @cached_property
    def needs(self) -> dict[str, dict[str, Any]]:
        """What the experiments need of each model: {artifact: {name: what its rule has to know}}."""
        found: dict[str, dict[str, Any]] = {}
        for experiment in self.experiments.values():
            for need in experiment.needs.values():
                if isinstance(need, Need):
                    found.setdefault(need.artifact, {}).setdefault(need.name, need.spec)
        return found

    @property
    def tasks(self) -> set[str]:
        """The tasks whose items benchmarks read."""
        reads = [
            need for benchmark in self.benchmarks.values() for need in benchmark.reads(self.config).values()
        ]
        needs = [one for need in reads for one in (need if isinstance(need, list) else [need])]
        return {Path(need.name).name.rpartition("-")[0] for need in needs if need.artifact == "task"}

    def names(self, artifact: str) -> set[str]:
        """Return the names of an artifact that experiments need, or that what they need is made from."""
        made_from = [spec.get(artifact) for spec in self.needs.get("codebooks", {}).values() if spec]
        return {*self.needs.get(artifact, {}), *filter(None, made_from)}


def load_study(config: dict[str, Any], schema: str | Path, root: str | Path = ".") -> Study:
    """Validate a raw config, fill in defaults, expand the grid.

    `root` is where relative paths and fetched resources are looked up. Raises ConfigError: one line that
    names the key, the value and what is allowed.
    """
    config = validate(with_text_keys(config), schema)
    for word, benchmark in BENCHMARKS.items():
        if word in config:
            benchmark.complete(config)
    experiments = expand(config["experiments"], config["seed"], config.get("seeds", ()))
    check_references(config, experiments, Path(root))
    if "seeds" in config and not any(experiment.kind.seeded_by for experiment in experiments.values()):
        raise ConfigError("seeds: would be ignored (no experiment depends on a seed)")
    study = Study(config, experiments)
    for task in config["tasks"]:
        if task not in study.tasks:
            read = ", ".join(sorted(study.tasks)[:5]) + (", ..." if len(study.tasks) > 5 else "")
            raise ConfigError(f"tasks.{task}: would be ignored (tasks that are run: {read or 'none'})")
    for artifact, known in ARTIFACTS.items():
        for model, entry in config["models"].items() if known.given else ():
            for name in entry[known.given]:
                if name not in study.names(artifact):
                    raise ConfigError(
                        f"models.{model}.{known.given}.{name}: would be ignored (experiments need "
                        f"{', '.join(sorted(study.names(artifact))) or 'none'})"
                    )
    if not study.benchmarks and "thresholds" not in study.needs:
        raise ConfigError(
            f"nothing to measure: give one of {', '.join(BENCHMARKS)}, or an experiment that needs thresholds"
        )
    return study
