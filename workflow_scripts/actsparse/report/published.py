"""The published tables (published/*.csv) as one list of cells: model, row, metric, value."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from actsparse.benchmarks.perplexity import Perplexity

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ATTENTION_INPUTS = ("q_proj", "k_proj", "v_proj")
# ACT(...) in the published tables names the projections that were left out.
LEFT_OUT = {"": (), "qkv": ATTENTION_INPUTS, "qkvo": (*ATTENTION_INPUTS, "o_proj")}
NOT_METRICS = {"model", "hf_model", "chat_template", "pruning", "runtime_min", "source"}


@dataclass(frozen=True)
class Cell:
    """One published number.

    row is an experiment in the words of `actsparse.report.tables.sources.pruning_word`, or "threshold 0.5";
    left_out are the projections that were not pruned. `digit` is the unit of the last digit printed.
    """

    table: str
    model: str
    row: str
    left_out: tuple[str, ...]
    metric: str
    value: float
    digit: float
    chat_template: bool
    source: str

    @property
    def projections(self) -> list[str]:
        """Those that were pruned."""
        return [projection for projection in PROJECTIONS if projection not in self.left_out]


def read_published(folder: str | Path) -> list[Cell]:
    """Return the cells of the N:M tables and of the threshold perplexities."""
    return [*_n_of_m(Path(folder)), *_thresholds(Path(folder))]


def _n_of_m(folder: Path) -> Iterator[Cell]:
    table = pd.read_csv(folder / "nm_activation_pruning_tables.csv", dtype=str)
    for _, row in table.iterrows():
        word, left_out = _row_word(row.pruning)
        for metric in table.columns.difference(NOT_METRICS, sort=False):
            if isinstance(row[metric], str):
                yield Cell(
                    table="nm_activation_pruning_tables",
                    model=row.hf_model,
                    row=word,
                    left_out=left_out,
                    metric=Perplexity.word if metric == "wikitext2_ppl" else metric,
                    value=float(row[metric]),
                    digit=_last_digit(row[metric]),
                    chat_template=row.chat_template == "true",
                    source=row.source,
                )


def _thresholds(folder: Path) -> Iterator[Cell]:
    table = pd.read_csv(folder / "threshold_perplexity.csv", dtype=str)
    for _, row in table.iterrows():
        yield Cell(
            table="threshold_perplexity",
            model=row.hf_model,
            row=f"threshold {float(row.sparsity_percent) / 100:g}",
            left_out=(),
            metric=Perplexity.word,
            value=float(row.wikitext2_ppl),
            digit=_last_digit(row.wikitext2_ppl),
            chat_template=False,
            source=f"{row.source}, {row.calibration}",
        )


def _row_word(pruning: str) -> tuple[str, tuple[str, ...]]:
    """Split "0.5 WT (qkvo)" into "0.5 wt" and the projections that it leaves out."""
    amount, weights, left_out = re.fullmatch(
        r"(\S+)\s*(wt|WT|ACT)?\s*(?:\((\w+)\))?", pruning.strip()
    ).groups(default="")
    return amount + (" wt" if weights.lower() == "wt" else ""), LEFT_OUT[left_out]


def _last_digit(number: str) -> float:
    return 10.0 ** -len(number.partition(".")[2])
