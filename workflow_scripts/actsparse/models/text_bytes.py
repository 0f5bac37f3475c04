"""How many bytes of a text tokens stand for, so that tokenizers can be compared."""

from collections.abc import Sequence

import numpy as np


def predicted_bytes(text: str, offsets: Sequence[tuple[int, int]], sequence_length: int) -> list[int]:
    """Return the UTF-8 bytes of all tokens but the first of each whole window of `sequence_length` tokens.

    `offsets` are where each token of `text` begins and ends, in characters; special tokens have (0, 0). The
    bytes are those from the end of a window's first token to the end of its last one, so that what a
    tokenizer leaves out counts with the token after it, and a character of several tokens with its first.
    """
    ends = np.maximum.accumulate(np.array([end for _, end in offsets], dtype=np.int64))
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    sizes = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    before = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])[ends]
    first = np.arange(len(ends) // sequence_length) * sequence_length
    return (before[first + sequence_length - 1] - before[first]).tolist()
