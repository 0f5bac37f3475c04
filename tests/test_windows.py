"""Token windows: which tokens, how many, and nothing lost on disk."""

from itertools import pairwise

import pytest
import torch
from actsparse.models.text_bytes import predicted_bytes
from actsparse.models.windows import (
    documents_of_windows,
    load_windows,
    make_windows,
    part_of_text,
    save_windows,
)
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_tokenizer


class Letters:
    """A tokenizer of one token a character, with one special token in front."""

    def __call__(self, text, verbose):
        return {"input_ids": [1, *(ord(letter) for letter in text)]}


def test_joined_with_blank_lines_and_tokenised_once():
    windows, info = make_windows(Letters(), ["ab", "cde"], 3, None)
    assert windows.tolist() == [[1, 97, 98], [10, 10, 99]]  # de is the dropped remainder
    assert windows.dtype == torch.int32
    assert info == {"sequence_length": 3, "windows": 2, "total_windows": 2, "tokens": 8}


@pytest.mark.parametrize(
    ("join", "tokens"), [("", [1, 97, 98, 99]), (" ", [1, 97, 32, 98, 99]), ("\r\n", None)]
)
def test_joined_as_wanted(join, tokens):
    windows, _ = make_windows(Letters(), ["a", "b" if tokens is None else "bc"], 1, None, join)
    assert windows.flatten().tolist() == (tokens or [1, 97, 13, 10, 98])


@pytest.mark.parametrize(
    ("windows", "tokens", "of_source", "part"), [(2, 8, 1.0, 0.75), (1, 8, 1.0, 0.375), (2, 12, 0.25, 0.125)]
)
def test_which_part_of_the_text_windows_are(windows, tokens, of_source, part):
    info = {"sequence_length": 3, "tokens": tokens, "part_of_source": of_source}
    assert part_of_text(info, windows) == part


def test_bytes_of_predicted_tokens():
    """The tokens of a byte-level tokenizer are written with one letter for each byte."""
    tokenizer = tiny_tokenizer()
    text = "The river of Norway; na\u00efve, \u4e2d\u6587 \U0001f30a was discovered in 1900."
    windows, info = make_windows(tokenizer, [text], 4, None)
    for window, size in zip(windows.tolist(), info["predicted_bytes"], strict=True):
        written = sum(map(len, tokenizer.convert_ids_to_tokens(window[1:])))
        # A character of several bytes counts with its first token, so a window that begins or ends within
        # one has up to three bytes more or less.
        assert abs(size - written) <= 3
    whole, info = make_windows(tokenizer, [text], len(tokenizer(text)["input_ids"]), None)
    first = len(tokenizer.convert_ids_to_tokens(whole[0, 0].item()))
    assert info["predicted_bytes"] == [len(text.encode()) - first]


def test_bytes_count_with_their_first_token():
    # "<s>", "a", the three bytes of a Chinese character as a token each, "b"; a blank that no token has; eos.
    offsets = [(0, 0), (0, 1), (1, 2), (1, 2), (1, 2), (3, 4), (0, 0), (0, 0)]
    assert predicted_bytes("a\u4e2d b", offsets, 4) == [1 + 3, 2]
    assert predicted_bytes("a\u4e2d b", offsets, 3) == [4, 2]
    assert predicted_bytes("a\u4e2d b", offsets, 8) == [6]


def test_evenly_spaced():
    text = "".join(chr(ord("a") + i) for i in range(20))
    windows, info = make_windows(Letters(), [text], 2, 4)
    tokens = [1, *(ord(letter) for letter in text)]
    assert windows.tolist() == [tokens[2 * i : 2 * i + 2] for i in (0, 2, 5, 7)]
    assert info == {"sequence_length": 2, "windows": 4, "total_windows": 10, "tokens": 21}


@given(
    length=st.integers(0, 200), sequence_length=st.integers(1, 20), sequences=st.none() | st.integers(1, 30)
)
def test_windows_are_distinct_pieces_in_order(length, sequence_length, sequences):
    text = "".join(chr(1000 + i) for i in range(length))
    total = (length + 1) // sequence_length
    wanted = total if sequences is None else sequences
    if not 0 < wanted <= total:
        with pytest.raises(ValueError, match=f"{length + 1} tokens, {total} windows of {sequence_length}"):
            make_windows(Letters(), [text], sequence_length, sequences)
        return
    windows, info = make_windows(Letters(), [text], sequence_length, sequences)
    tokens = [1, *(1000 + i for i in range(length))]
    starts = [tokens.index(window[0]) for window in windows.tolist()]
    assert starts == [i * total // wanted * sequence_length for i in range(wanted)]
    assert len(set(starts)) == wanted
    for start, window in zip(starts, windows.tolist(), strict=True):
        assert window == tokens[start : start + sequence_length]
    assert info["total_windows"] == total


def test_too_short_a_text_is_one_line():
    with pytest.raises(ValueError) as error:
        make_windows(Letters(), ["abc"], 3, 2)
    assert str(error.value) == "the text has 4 tokens, 1 windows of 3; asked for 2"


def test_saved_and_loaded(tmp_path):
    windows, numbers = make_windows(Letters(), ["abcdef"], 2, 2)
    info = {
        "corpus": "letters",
        "split": "test",
        "corpus_sha256": "0" * 64,
        "model_digest": "1" * 64,
        **numbers,
    }
    save_windows(tmp_path / "windows.safetensors", windows, info)
    loaded, loaded_info = load_windows(tmp_path / "windows.safetensors")
    assert torch.equal(loaded, windows)
    assert loaded.dtype == torch.int32
    assert loaded_info == info
    again = (tmp_path / "windows.safetensors").read_bytes()
    save_windows(tmp_path / "windows.safetensors", windows, info)
    assert (tmp_path / "windows.safetensors").read_bytes() == again
    assert len(list(tmp_path.iterdir())) == 1


@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    between=st.integers(0, 3),
    cuts=st.lists(st.integers(0, 100), min_size=2, max_size=6, unique=True),
)
def test_which_documents_windows_are_of(lengths, between, cuts):
    """Against the document of each character, written out; what stands between counts to the one before."""
    owners = [i for i, length in enumerate(lengths) for _ in range(length + between)]
    owners = owners[: len(owners) - between] if between else owners
    cuts = sorted(cut for cut in cuts if cut <= len(owners))
    spans = list(pairwise(cuts))
    for (begin, end), (first, last, most) in zip(
        spans, documents_of_windows(spans, lengths, between), strict=True
    ):
        held = owners[begin:end]
        assert (first, last) == (held[0], held[-1])
        assert held.count(most) == max(map(held.count, held))


@pytest.mark.parametrize("special", [False, True])
def test_windows_know_their_documents(special):
    tokenizer = tiny_tokenizer()
    if special:
        tokenizer.add_bos_token = tokenizer.add_eos_token = True
        tokenizer.update_post_processor()
    texts = [
        "The river of Norway. " * 4,
        "castle in é 1901",
        "",
        "The language of Anatolia was described. " * 6,
    ]
    windows, info = make_windows(tokenizer, texts, 8, None)
    assert info["window_documents"][0] == [0, 0, 0] and info["window_documents"][-1] == [3, 3, 3]
    assert any(first < last for first, last, _ in info["window_documents"])
    for window, (first, last, most) in zip(windows, info["window_documents"], strict=True):
        text = tokenizer.decode(window, skip_special_tokens=True)
        assert first <= most <= last
        if first == last:
            assert text.strip("\n") in texts[first]
        else:
            assert text not in texts[most]
    some, chosen = make_windows(tokenizer, texts, 8, 2)
    places = [windows.tolist().index(window.tolist()) for window in some]
    assert chosen["window_documents"] == [info["window_documents"][place] for place in places]
