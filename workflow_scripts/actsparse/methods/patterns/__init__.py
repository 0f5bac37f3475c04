"""Patterns: which elements survive, given their scores. One file and one line here make a new one."""

from actsparse.methods.sparsity_table import TABLE_SUFFIX

PATTERNS = {
    "n_of_m": "actsparse.methods.patterns.n_of_m:NOfM",
    "top_k": "actsparse.methods.patterns.top_k:TopK",
    "top_k_table": "actsparse.methods.patterns.top_k_table:TopKTable",
    "threshold": "actsparse.methods.patterns.threshold:Threshold",
    "full": "actsparse.methods.patterns.full:Full",
    "codebook": "actsparse.codebooks.pattern:CodebookPattern",
}


def parse_pattern(value: str | float) -> tuple[str, tuple]:
    """Return the word and the arguments of a config's `pattern`.

    A name that ends in .csv is a table of sparsities, "2:4" is N:M, a fraction is top-k.
    """
    if str(value).endswith(TABLE_SUFFIX):
        return "top_k_table", (value,)
    if ":" in str(value):
        return "n_of_m", tuple(map(int, str(value).split(":")))
    return "top_k", (value,)
