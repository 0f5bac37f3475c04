"""Splits of hub datasets, through local copies with checksums."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from actsparse.resources.hub import fetch_snapshot
from actsparse.resources.sources import HubRepo

if TYPE_CHECKING:
    from datasets import Dataset

# Endings of the data files that `datasets` reads without code from the repository.
BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}


def load_hub_split(
    source: HubRepo, name: str | None, split: str, folder: str | Path, lock_file: str | Path
) -> "Dataset":
    """Load one split of configuration `name` of a hub dataset, keeping its files in `folder`.

    Only the dataset card and the split's own data files are downloaded; both are held to `lock_file`, and
    the hub is not contacted when they are in place. Raises ValueError, in one line, for an unknown
    configuration or split, or for data files of a kind that needs code to read.
    """
    from datasets import load_dataset

    folder = Path(folder)
    # Every repository has .gitattributes, not every one has a card: asked for both, the hub has something.
    fetch_snapshot(source, folder, lock_file, "dataset", [".gitattributes", "README.md"])
    patterns = split_patterns(source, folder / "README.md", name, split)
    files = sorted(fetch_snapshot(source, folder, lock_file, "dataset", patterns)["files"])
    builders = {BUILDERS.get(Path(file).suffix) for file in files}
    if len(builders) != 1 or None in builders:
        raise ValueError(f"{source}: files of split {split} are not of one kind among {', '.join(BUILDERS)}")
    with tempfile.TemporaryDirectory() as cache:
        return load_dataset(
            builders.pop(),
            data_files={split: [str(folder / file) for file in files]},
            split=split,
            cache_dir=cache,
            keep_in_memory=True,
        )


def split_patterns(source: HubRepo, card: Path, name: str | None, split: str) -> list[str]:
    """Patterns of the files of one split: as the dataset card says, or by their names where it is silent."""
    from datasets.data_files import sanitize_patterns
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    configs = MetadataConfigs()
    if card.is_file():
        configs = MetadataConfigs.from_dataset_card_data(DatasetCard.load(card).data)
    if not configs:
        return patterns_by_name(name, split)
    chosen = name or configs.get_default_config_name()
    if chosen not in configs:
        raise ValueError(f"{source}: no configuration {name!r}; it has {', '.join(sorted(configs))}")
    if "data_files" not in configs[chosen]:
        return patterns_by_name(configs[chosen].get("data_dir"), split)
    splits = sanitize_patterns(configs[chosen]["data_files"])
    if split not in splits:
        raise ValueError(f"{source}: {chosen} has no split {split!r}; it has {', '.join(splits)}")
    return [pattern.removeprefix("./") for pattern in splits[split]]


def patterns_by_name(folder: str | None, split: str) -> list[str]:
    """Patterns of the usual places of one split's files, below `folder` where one is given."""
    prefix = f"{folder}/" if folder else ""
    return [f"{prefix}{split}[-.]*", f"{prefix}data/{split}[-.]*"]
