"""perplexity: over non-overlapping windows of a text, the headline of both papers."""

import math
from typing import TYPE_CHECKING, Any

from actsparse.benchmarks.benchmark import Config, Numbers, Records
from actsparse.benchmarks.text import OverText
from actsparse.columns import Column
from actsparse.jobs.files import number
from actsparse.observations import Observations
from actsparse.wording import told_parts, told_windows

if TYPE_CHECKING:
    from actsparse.evaluation.run import Run
    from actsparse.report.published import Cell

# How the papers measure it.
PUBLISHED_TEXT = ("wikitext-2-raw-v1", "test")
PUBLISHED_WINDOW = 2048


class Perplexity(OverText):
    """exp of the mean negative log-likelihood of a token."""

    word = "perplexity"
    description = "Text on which perplexity is measured; without it no perplexity is."
    ranked = against_sparsity = "perplexity"
    logit_rows = 2 * 256  # TOKENS_PER_CHUNK, and their logarithms

    def measure(self, run: "Run") -> dict[str, Any]:
        """Return what `measure_perplexity` does, `bits_per_byte`, and on which text.

        `window_documents` tells of each window its first and last document and the one it has most of.
        """
        from actsparse.evaluation.perplexity import bits_per_byte, measure_perplexity
        from actsparse.models.windows import load_windows, part_of_text

        windows, info = load_windows(run.files["windows"])
        windows = windows[: run.first_windows]
        text = {key: info[key] for key in ("corpus", "split", "documents", "of_documents")}
        with run.sparse() as model:
            measured = measure_perplexity(model, windows)
        if documents := info.get("window_documents"):
            measured["window_documents"] = documents[: len(windows)]
        if sizes := info.get("predicted_bytes"):
            tokens = measured["sequence_length"] - 1
            bits = bits_per_byte(measured["nll_per_window"], tokens, sizes[: len(windows)])
            measured |= {"bits_per_byte": bits, "bytes": sum(sizes[: len(windows)])}
        return measured | {"text": text | {"part": part_of_text(info, len(windows))}}

    def columns(self, config: Config, records: Records = ()) -> list[Column]:
        """Return perplexity and its ratio to the dense model's; on request bits a byte, part of text."""
        return [
            Column("perplexity", large=True, better="lower", headline=True, over_dense=True, paired="ratio"),
            Column("bits_per_byte", "bits a byte", better="lower"),
            Column("part_of_text", "part of the text", significant=3),
        ]

    def numbers(self, record: dict[str, Any]) -> Numbers:
        """Return the value and its standard error over windows."""
        bits = record.get("bits_per_byte", {})
        return {
            "perplexity": (number(record["value"]), number(record.get("stderr"))),
            "bits_per_byte": (number(bits.get("value")), number(bits.get("stderr"))),
            "part_of_text": (number(record.get("text", {}).get("part")), math.nan),
        }

    def observations(self, record: dict[str, Any]) -> dict[str, Observations]:
        """Return the mean negative log-likelihood of each window; windows with most of one document are no
        independent draws."""
        if "nll_per_window" not in record:
            return {}
        values = [number(value) for value in record["nll_per_window"]]
        documents = record.get("window_documents")
        groups = None if documents is None else [most for _, _, most in documents]
        source = record.get("inputs", {}).get("windows")
        return {
            "perplexity": Observations(values, "windows", groups=groups, grouped="documents", source=source)
        }

    def told(self, config: Config, records: Records = ()) -> str:
        """Return the windows, in words, and which part of the text they are."""
        parts = [record["text"]["part"] for record in records if "text" in record]
        return f"Perplexity on {told_windows(config, self.word)}{told_parts(parts)}."

    def published_otherwise(self, cell: "Cell", config: Config, model: str) -> str:
        """Return where text or windows differ from the papers'."""
        use = config[self.word]
        if (config["corpora"][use["corpus"]].get("name"), use["split"]) != PUBLISHED_TEXT:
            name, split = PUBLISHED_TEXT
            return f"published on {name} ({split}), ours on {use['corpus']} ({use['split']})"
        if use["sequence_length"] != PUBLISHED_WINDOW or use["sequences"] is not None:
            return f"published on all windows of {PUBLISHED_WINDOW} tokens"
        return ""
