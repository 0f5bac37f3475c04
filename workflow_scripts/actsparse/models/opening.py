"""What every pass over a corpus begins with: a model on its device, and the windows it reads."""

from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from actsparse.jobs.devices import pick_device, use_threads
from actsparse.models.loading import load_model
from actsparse.models.windows import load_windows


def open_model_and_windows(
    model: Path, windows: Path, *, threads: int, dtype: str, trust_remote_code: bool, device: str
) -> tuple[PreTrainedModel, Tensor]:
    """Return the model of a manifest, and the token windows of a file, int (windows, length).

    The model is on `device` (auto, cpu, cuda) and computes with `threads` CPU threads. Raises ValueError when
    a file is not whole, or when a GPU is asked for and none is visible.
    """
    use_threads(threads)
    tokens, _ = load_windows(windows)
    return load_model(model, dtype, pick_device(device), trust_remote_code), tokens
