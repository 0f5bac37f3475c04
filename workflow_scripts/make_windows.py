"""Token windows of one split of a corpus, for one model's tokenizer."""

from pathlib import Path

from actsparse.jobs.files import read_json, sha256_of
from actsparse.jobs.logs import log_to
from actsparse.models.loading import load_tokenizer
from actsparse.models.windows import make_windows, part_of_text, save_windows
from actsparse.resources.corpora import read_part, read_texts


def tokenise_corpus(
    model: Path,
    corpus: Path,
    output: Path,
    *,
    name: str,
    split: str,
    sequence_length: int,
    sequences: int | None,
    join: str,
    trust_remote_code: bool = False,
) -> None:
    """Write the windows of a corpus file for a model manifest's tokenizer, and what they are a part of."""
    tokenizer = load_tokenizer(model, trust_remote_code)
    windows, numbers = make_windows(tokenizer, read_texts(corpus), sequence_length, sequences, join)
    origin = {
        "corpus": name,
        "split": split,
        "corpus_sha256": sha256_of(corpus),
        "model_digest": read_json(model)["digest"],
        **read_part(corpus),
    }
    info = origin | numbers
    save_windows(output, windows, info)
    print(
        f"{output}: {len(windows)} of {info['total_windows']} windows of {sequence_length} tokens of {name} "
        f"({split}: {info['documents']} of {info['of_documents']} documents), "
        f"{part_of_text(info, len(windows)):.2%} of the whole text"
    )


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        tokenise_corpus(
            snakemake.input.model,
            snakemake.input.corpus,
            snakemake.output[0],
            name=snakemake.params.corpus,
            split=snakemake.params.split,
            sequence_length=snakemake.params.sequence_length,
            sequences=snakemake.params.sequences,
            join=snakemake.params.join,
            trust_remote_code=snakemake.params.trust_remote_code,
        )
