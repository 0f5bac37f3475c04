"""decode: how long a token takes when zeros are skipped, beside the dense model in the same job."""

import math
from typing import TYPE_CHECKING, Any

from actsparse.artifacts import Need
from actsparse.benchmarks.benchmark import Benchmark, Config, Numbers, Records
from actsparse.benchmarks.perplexity import Perplexity
from actsparse.columns import Column
from actsparse.errors import ConfigError
from actsparse.jobs.files import number

if TYPE_CHECKING:
    from actsparse.evaluation.run import Run


class Decode(Benchmark):
    """Text is decoded one token after the other by `execute`, dense and sparse in turns."""

    word = "decode"
    description = "Speed of decoding with zeros skipped; without it none is measured."
    keys = {
        "prompt_tokens": {
            "description": "Tokens of the text that stand before those that are timed.",
            "type": "integer",
            "minimum": 1,
            "default": 64,
        },
        "new_tokens": {
            "description": "Tokens of the text that are decoded one by one, and timed.",
            "type": "integer",
            "minimum": 1,
            "default": 64,
        },
        "batch": {
            "description": "Sequences that are decoded together.",
            "type": "integer",
            "minimum": 1,
            "maximum": 8,
            "default": 1,
        },
        "repeats": {
            "description": "How often dense and sparse take turns.",
            "type": "integer",
            "minimum": 1,
            "default": 5,
        },
        "weights": {
            "description": "Store the linear layers' weights in 8 bits, those of the dense model too.",
            "enum": ["as_loaded", "int8"],
            "default": "as_loaded",
        },
    }
    alone = True
    lays_out = True
    ranked = "ms_per_token"
    against = {
        "perplexity_speed": (Perplexity.word, "ms_per_token"),
        "speed_executed": ("decode_speedup", "executed_sparsity"),
    }

    def _text(self, config: Config) -> str:
        """Return the use whose windows are decoded: those of perplexity, or of calibration."""
        return Perplexity.word if Perplexity.word in config else "calibration"

    def check(self, config: Config) -> None:
        """Raise ConfigError when there is no text, or too little of it."""
        use = self._text(config)
        if use not in config:
            raise ConfigError(f"{self.word}: needs a text (give {Perplexity.word} or calibration)")
        needed = config[self.word]["prompt_tokens"] + config[self.word]["new_tokens"]
        if needed > config[use]["sequence_length"]:
            raise ConfigError(
                f"{self.word}: prompt_tokens and new_tokens are {needed}, more than the "
                f"{config[use]['sequence_length']} of {use}.sequence_length"
            )
        windows = config[use]["sequences"]
        if windows is not None and config[self.word]["batch"] > windows:
            raise ConfigError(
                f"{self.word}.batch: {config[self.word]['batch']} is not allowed (at most the {windows} of "
                f"{use}.sequences)"
            )

    def reads(self, config: Config) -> dict[str, Need]:
        """Return the windows."""
        return {"windows": Need("windows", self._text(config))}

    def tokens_at_once(self, config: Config) -> int:
        """Return the prompts of a batch."""
        return config[self.word]["batch"] * config[self.word]["prompt_tokens"]

    def measure(self, run: "Run") -> dict[str, Any]:
        """Return times and counts, or why nothing is skipped, see `measure_decoding`."""
        from actsparse.evaluation.decoding import measure_decoding
        from actsparse.models.windows import load_windows

        windows, _ = load_windows(run.files["windows"])
        return measure_decoding(run.model, run.scheme, windows, **run.options)

    def columns(self, config: Config, records: Records = ()) -> list[Column]:
        """Return milliseconds, speed over dense, and what was skipped."""
        return [
            Column("ms_per_token", "ms a token", decimals=2, better="lower", headline=True),
            Column("decode_speedup", "speed over dense", decimals=2, better="higher", headline=True),
            Column("executed_sparsity", "executed sparsity"),
            Column("weight_mb_per_token", "weights read (MB a token)", decimals=1),
        ]

    def numbers(self, record: dict[str, Any]) -> Numbers:
        """Return medians, their error half of the range between the quartiles; NaN where it was refused."""
        low, median, high = map(number, record["milliseconds"])
        dense = number(record["dense_milliseconds"][1])
        return {
            "ms_per_token": (median, (high - low) / 2),
            "decode_speedup": (dense / median, math.nan),
            "executed_sparsity": (number(record["executed_sparsity"]), math.nan),
            "weight_mb_per_token": (number(record["weight_bytes_per_token"]) / 2**20, math.nan),
        }

    def told(self, config: Config, records: Records = ()) -> str:
        """Return how many tokens, how often, and that it is on a machine of its own."""
        use = config[self.word]
        batch = f", {use['batch']} sequences at once" if use["batch"] > 1 else ""
        stored = ", weights in 8 bits" if use["weights"] == "int8" else ""
        return (
            f"Decoding: median over {use['repeats']} times {use['new_tokens']} tokens of text after "
            f"{use['prompt_tokens']}, dense and sparse in turns{batch}{stored}."
        )
