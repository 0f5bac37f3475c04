"""Mitigations: how the error of pruning is corrected. One file and one line here make a new one."""

MITIGATIONS = {
    "none": "actsparse.mitigations.none:NoMitigation",
}
