"""For models that no paper has: is the order of methods the published one, and is the loss of that size?"""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from actsparse.benchmarks.perplexity import Perplexity
from actsparse.kinds import Kind
from actsparse.kinds.dense import Dense
from actsparse.report.fidelity import counterpart, known_difference
from actsparse.report.published import Cell

COLUMNS = [
    "model",
    "published_model",
    "row",
    "rank",
    "published_rank",
    "over_dense",
    "published_over_dense",
    "rank_correlation",
]


def shapes(
    rows: pd.DataFrame,
    kinds: dict[tuple[str, str], Kind],
    published: Iterable[Cell],
    known: list[dict[str, Any]],
) -> pd.DataFrame:
    """Return one row per experiment and published model that has the same row in its table.

    Args are those of `actsparse.report.fidelity.compare`. `rank` is the place by perplexity among the shared
    rows, `over_dense` the perplexity over the dense model's, `rank_correlation` Spearman's, over the shared
    rows (dense aside); a published model that shares fewer than two is left out.
    """
    if Perplexity.word not in rows:
        return pd.DataFrame(columns=COLUMNS)
    theirs: dict[str, dict[str, Cell]] = {}
    for cell in published:
        if cell.metric == Perplexity.word and not cell.left_out and not known_difference(cell, known):
            # Where a row was published twice, the first publication counts.
            theirs.setdefault(cell.model, {}).setdefault(cell.row, cell)
    found = []
    for model, of_model in rows.dropna(subset=[Perplexity.word]).groupby("model", sort=False):
        for other, cells in theirs.items():
            pairs = {
                word: (counterpart(of_model, kinds, cell, known), cell.value) for word, cell in cells.items()
            }
            values = {
                word: (row[Perplexity.word], value) for word, (row, value) in pairs.items() if row is not None
            }
            dense = values.pop(Dense.pruning, (math.nan, math.nan))
            if len(values) < 2:
                continue
            ours, published_values = (pd.Series({w: v[i] for w, v in values.items()}) for i in range(2))
            rank, published_rank = ours.rank(), published_values.rank()
            for word, (value, published_value) in values.items():
                found.append(
                    {
                        "model": model,
                        "published_model": other,
                        "row": word,
                        "rank": int(rank[word]),
                        "published_rank": int(published_rank[word]),
                        "over_dense": value / dense[0],
                        "published_over_dense": published_value / dense[1],
                        "rank_correlation": rank.corr(published_rank),
                    }
                )
    return pd.DataFrame(found, columns=COLUMNS)
