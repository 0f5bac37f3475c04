"""What a benchmark is: all that the workflow asks of one, with answers that suit most."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from actsparse.artifacts import Need
from actsparse.columns import Column
from actsparse.observations import Observations

if TYPE_CHECKING:
    from actsparse.evaluation.run import Run
    from actsparse.report.published import Cell

Config = dict[str, Any]
# Results of a benchmark, as their JSON has them.
Records = Iterable[dict[str, Any]]
# {column: (value, its standard error or NaN)}
Numbers = dict[str, tuple[float, float]]


class Benchmark(ABC):
    """By what experiments are measured. A benchmark is one file with a class made from this one.

    It says:
        word: the key of the config that asks for it; what stands there are its options.
        description, keys, required: its part of the config's schema.
        group: the word that stands for its headline columns where a table names its columns.
        minutes: how long one evaluation may take at most, for schedulers.
        alone: whether it measures time, so that its jobs take the machine for themselves.
        logit_copies: how often it holds the logits of a forward pass.
        logit_rows: for how many tokens it holds logits in float32 beside these.
        libraries_mb: what its libraries take, in MB.
        lays_out: whether it lays the weights of all layers out anew.
        ranked: the column whose values get a figure of all experiments in their order.
        against_sparsity: the column that gets a figure against realised sparsity.
        against: {figure: (column, other column)}, a figure of one against the other in studies that have
            both.

    Nothing here imports torch but `measure`.
    """

    word: ClassVar[str]
    description: ClassVar[str]
    keys: ClassVar[dict[str, dict]] = {}
    required: ClassVar[tuple[str, ...]] = ()
    group: ClassVar[str | None] = None
    minutes: ClassVar[int] = 240
    alone: ClassVar[bool] = False
    logit_copies: ClassVar[int] = 1
    logit_rows: ClassVar[int] = 0
    libraries_mb: ClassVar[int] = 0
    lays_out: ClassVar[bool] = False
    ranked: ClassVar[str | None] = None
    against_sparsity: ClassVar[str | None] = None
    against: ClassVar[dict[str, tuple[str, str]]] = {}

    # The config's side.

    def schema(self) -> dict[str, Any]:
        """Return its part of the schema of a config."""
        return {
            "description": self.description,
            "type": "object",
            "additionalProperties": False,
            "required": list(self.required),
            "properties": self.keys,
        }

    def complete(self, config: Config) -> None:  # noqa: B027 - most have nothing to fill in
        """Fill in what its words stand for, in place; ConfigError for one that stands for nothing."""

    def check(self, config: Config) -> None:  # noqa: B027 - most have nothing to check
        """Raise ConfigError for what no schema can tell; `config` has its key."""

    # The workflow's side.

    @abstractmethod
    def reads(self, config: Config) -> dict[str, Need | list[Need]]:
        """Return the artifacts that it reads beside the model, by name."""

    def options(self, config: Config, model: str) -> dict[str, Any]:
        """Return what `measure` has to know of the config."""
        return config[self.word]

    def tokens_at_once(self, config: Config) -> int:
        """Return how many tokens a forward pass reads at most, by which memory is asked for."""
        return 0

    @property
    def modules(self) -> list[str]:
        """The library modules that its results depend on, beyond those that every result does."""
        return [f"{type(self).__module__}:{type(self).__name__}.measure"]

    @abstractmethod
    def measure(self, run: "Run") -> dict[str, Any]:
        """Measure a model under a scheme and return the numbers, as they go into the result's JSON."""

    # The reports' side.

    @abstractmethod
    def columns(self, config: Config, records: Records = ()) -> list[Column]:
        """Return the columns that it adds to the tables of a study, whose results may be there already."""

    @abstractmethod
    def numbers(self, record: dict[str, Any]) -> Numbers:
        """Return the columns' values for a result; what is not finite is NaN."""

    def observations(self, record: dict[str, Any]) -> dict[str, Observations]:
        """Return, by column, what its number is the mean of (of a ratio, the logarithm of its number).

        Columns that say how they are `paired` are compared by it; a result that keeps nothing has none.
        """
        return {}

    def told(self, config: Config, records: Records = ()) -> str:
        """Return what it was measured on, as a sentence for captions; its results may be there already."""
        return ""

    def published_otherwise(self, cell: "Cell", config: Config, model: str) -> str:
        """Return how a published number was measured otherwise than here; "" where it was not."""
        return ""
