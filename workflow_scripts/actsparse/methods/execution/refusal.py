"""Why a scheme cannot be executed."""


class CannotExecute(ValueError):
    """A scheme, or a model, whose zeros cannot be skipped; the message says why in one line."""
