"""For models that no paper has: is the order of methods the published one, and is the loss of that size?"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from actsparse.benchmarks.perplexity import Perplexity
from actsparse.kinds import Kind
from actsparse.kinds.dense import Dense
from actsparse.report.fidelity import known_difference
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
    theirs: dict[str, dict[str, float]] = {}
    for cell in published:
        if cell.metric == Perplexity.word and not cell.left_out and not known_difference(cell, known):
            # Where a row was published twice, the first publication counts.
            theirs.setdefault(cell.model, {}).setdefault(cell.row, cell.value)
    found = []
    for model, of_model in rows.dropna(subset=[Perplexity.word]).groupby("model", sort=False):
        of_rows = [(kinds[model, row.experiment], row) for _, row in of_model.iterrows()]
        ours = {kind.published_row: row.perplexity for kind, row in of_rows if kind.is_plain}
        for other, values in theirs.items():
            shared = [word for word in values if word in ours and word != Dense.pruning]
            if len(shared) < 2:
                continue
            rank = pd.Series(ours)[shared].rank()
            published_rank = pd.Series(values)[shared].rank()
            for word in shared:
                found.append(
                    {
                        "model": model,
                        "published_model": other,
                        "row": word,
                        "rank": int(rank[word]),
                        "published_rank": int(published_rank[word]),
                        "over_dense": ours[word] / ours.get(Dense.pruning, float("nan")),
                        "published_over_dense": values[word] / values.get(Dense.pruning, float("nan")),
                        "rank_correlation": rank.corr(published_rank),
                    }
                )
    return pd.DataFrame(found, columns=COLUMNS)
