"""What the numbers of a study were measured on, in a sentence for captions."""

from typing import Any


def protocol(config: dict[str, Any]) -> dict[str, str]:
    """Return {source of a table: sentence} of a validated config; "" where there is nothing to say."""
    measured = _on("Perplexity", config.get("perplexity"))
    covered = _on("Perplexity and coverage", config.get("perplexity"))
    zero_shot = config.get("zero_shot")
    if zero_shot:
        items = "all items" if zero_shot["limit"] is None else f"the first {zero_shot['limit']} items"
        measured += f" Accuracy on {items} of each task, {zero_shot['num_fewshot']}-shot."
    calibrated = _on("Counted", config.get("calibration"))
    return {"evaluations": measured.strip(), "codebooks": covered, "thresholds": calibrated}


def _on(what: str, use: dict[str, Any] | None) -> str:
    if not use:
        return ""
    count = "all" if use["sequences"] is None else use["sequences"]
    return (
        f"{what} on {count} windows of {use['sequence_length']:,} tokens of {use['corpus']} ({use['split']})."
    )
