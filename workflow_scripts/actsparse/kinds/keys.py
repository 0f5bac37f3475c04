"""Keys of the config that several kinds have, in the words of JSON schema."""

FRACTION = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
FEED_FORWARD = ["gate_proj", "up_proj", "down_proj"]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
EVERYTHING = ATTENTION + FEED_FORWARD

LAYERS = {
    "description": (
        'Decoder layers that are touched, counted from 0, such as "4-27" or "0,2,5-"; all by default.'
    ),
    "type": "string",
    "pattern": "^[0-9]+(-[0-9]*)?(,[0-9]+(-[0-9]*)?)*$",
}
AS_PUBLISHED = {
    "description": (
        "Restore the published artifact's own arithmetic where it differs from the corrected one."
    ),
    "type": "boolean",
    "default": False,
}
PATTERN = {
    "description": (
        'N:M, for instance "2:4"; unstructured sparsity as a fraction in [0, 1); or a CSV file of such '
        "fractions with a line for each layer and the columns layer, q_proj, k_proj, ..."
    ),
    "oneOf": [
        {"type": "string", "pattern": "^[1-9][0-9]*:[1-9][0-9]*$"},
        {"type": "string", "pattern": r"\.csv$"},
        FRACTION,
    ],
}


def projections(default: list[str]) -> dict:
    """Return the key that says which projections are touched."""
    return {
        "description": "Projections that are touched, in every decoder layer; names or regular expressions.",
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {"type": "string"},
        "default": default,
    }
