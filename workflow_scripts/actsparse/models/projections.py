"""The names of projections in the architectures' own words; no torch."""

# What the artifact of arXiv 2509.22166 replaces, by the last part of a module's name, anywhere in the model.
PUBLISHED_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

# Architectures that use another word for the same projection.
SYNONYMS = {
    "out_proj": "o_proj",
    "dense": "o_proj",
    "fc1": "up_proj",
    "fc2": "down_proj",
    "c_fc": "up_proj",
    "c_proj": "down_proj",
    "dense_h_to_4h": "up_proj",
    "dense_4h_to_h": "down_proj",
}

# One linear layer that computes several projections, in the order of its output rows.
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}

# The same with the rows of its projections mixed, head by head: they share an input, but cannot be told apart
# as outputs.
INTERLEAVED = {"query_key_value": ("q_proj", "k_proj", "v_proj")}

KNOWN = (*PUBLISHED_PROJECTIONS, *SYNONYMS, *FUSED, *INTERLEAVED)
