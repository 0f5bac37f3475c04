"""How a config writes patterns. No torch here: configs are checked without it."""

from actsparse.methods.sparsity_table import TABLE_SUFFIX


def parse_pattern(value: str | float) -> tuple[str, tuple]:
    """Return the word and the arguments of a config's `pattern`.

    A name that ends in .csv is a table of sparsities, "2:4" is N:M, a fraction is top-k.
    """
    if str(value).endswith(TABLE_SUFFIX):
        return "top_k_table", (value,)
    if ":" in str(value):
        return "n_of_m", tuple(map(int, str(value).split(":")))
    return "top_k", (value,)
