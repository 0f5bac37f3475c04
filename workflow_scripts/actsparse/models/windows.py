"""Token windows: the text that every calibration and perplexity measurement of a study shares."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from actsparse.jobs.files import atomic_path
from actsparse.jobs.tensor_files import opened
from actsparse.models.text_bytes import predicted_bytes

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase


def make_windows(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Iterable[str],
    sequence_length: int,
    sequences: int | None,
    join: str = "\n\n",
) -> tuple[torch.Tensor, dict[str, int | list[int] | list[list[int]]]]:
    """Cut a corpus into non-overlapping windows of tokens.

    The texts are joined with `join`, by default with blank lines, and tokenised once, with the special tokens
    that the tokenizer adds by default; a remainder shorter than a window is dropped. `sequences` windows are
    taken, evenly spaced over the text (window i * total // sequences), or all of them when it is None.

    Returns int32 token ids (windows, sequence_length) and the numbers `sequence_length`, `windows`,
    `total_windows` and `tokens` (in the whole text); where the tokenizer knows which characters a token is
    of, also `window_documents` and `predicted_bytes` of each window, see the functions. Raises ValueError
    when the text is too short.
    """
    texts = list(texts)
    text = join.join(texts)
    tells = {"return_offsets_mapping": True} if getattr(tokenizer, "is_fast", False) else {}
    encoded = tokenizer(text, verbose=False, **tells)
    tokens = encoded["input_ids"]
    total = len(tokens) // sequence_length
    wanted = total if sequences is None else sequences
    if not 0 < wanted <= total:
        raise ValueError(
            f"the text has {len(tokens)} tokens, {total} windows of {sequence_length};"
            f" asked for {'at least 1' if sequences is None else sequences}"
        )
    ids = torch.tensor(tokens[: total * sequence_length], dtype=torch.int32).reshape(total, sequence_length)
    chosen = torch.arange(wanted) * total // wanted
    info: dict[str, int | list[int] | list[list[int]]] = {
        "sequence_length": sequence_length,
        "windows": wanted,
        "total_windows": total,
        "tokens": len(tokens),
    }
    if tells:
        spans = [
            _characters(encoded, window * sequence_length, sequence_length) for window in chosen.tolist()
        ]
        info["window_documents"] = documents_of_windows(spans, list(map(len, texts)), len(join))
        every = predicted_bytes(text, encoded["offset_mapping"], sequence_length)
        info["predicted_bytes"] = [every[i] for i in chosen.tolist()]
    return ids[chosen], info


def documents_of_windows(
    spans: Iterable[tuple[int, int]], lengths: Sequence[int], between: int
) -> list[list[int]]:
    """Return [first, last, most] of each window: the documents it begins and ends in, and the one that most
    of its characters are of, the first one of several.

    `spans` are the windows' characters [begin, end) of the joined text, `lengths` the documents' characters,
    of which `between` stand between two; these count to the document before them.
    """
    begins = list(accumulate((length + between for length in lengths), initial=0))
    found = []
    for begin, end in spans:
        first, last = (bisect_right(begins, place, hi=len(lengths)) - 1 for place in (begin, end - 1))
        held = [min(begins[i + 1], end) - max(begins[i], begin) for i in range(first, last + 1)]
        found.append([first, last, first + held.index(max(held))])
    return found


def _characters(encoded: "BatchEncoding", token: int, count: int) -> tuple[int, int]:
    """Return the characters [begin, end) that `count` tokens are of; special tokens are of none."""
    places = range(token, token + count)
    first = next(filter(None, map(encoded.token_to_chars, places)))
    last = next(filter(None, map(encoded.token_to_chars, reversed(places))))
    return first.start, last.end


def part_of_text(info: dict[str, str | int | float], windows: int) -> float:
    """Return which part of its corpus's whole text that many windows of a windows file are.

    That is their part of the split's tokens times the part that the split is of the source, by characters.
    """
    return windows * info["sequence_length"] / info["tokens"] * info["part_of_source"]


def save_windows(target: str | Path, windows: torch.Tensor, info: dict[str, str | int]) -> None:
    """Write windows as safetensors, atomically; `info` (corpus, split, digests, numbers) is the metadata.

    The same windows and info give the same bytes.
    """
    from safetensors.torch import save_file

    with atomic_path(target) as temporary:
        # One entry, because safetensors writes several of them in random order.
        save_file({"windows": windows}, temporary, metadata={"info": json.dumps(info, sort_keys=True)})


def load_windows(source: str | Path) -> tuple[torch.Tensor, dict[str, str | int]]:
    """Read what `save_windows` wrote: int32 token ids (windows, sequence_length) and `info`.

    Raises ValueError naming a file that is not whole.
    """
    with opened(source) as stored:
        return stored.get_tensor("windows"), json.loads(stored.metadata()["info"])
