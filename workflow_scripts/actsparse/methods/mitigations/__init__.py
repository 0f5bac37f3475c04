"""Mitigations: how the error of pruning is corrected. One file and one line here make a new one."""

MITIGATIONS = {
    "none": "actsparse.methods.mitigations.none:NoMitigation",
    "variance": "actsparse.methods.mitigations.variance:Variance",
    "shift": "actsparse.methods.mitigations.shift:Shift",
    "shift_mean": "actsparse.methods.mitigations.shift:MeanShift",
    "shift_static": "actsparse.methods.mitigations.static_shift:StaticShift",
    "learned_shift": "actsparse.methods.mitigations.learned_shift:LearnedShift",
    "scale_shift": "actsparse.methods.mitigations.scale_shift:ScaleShift",
    "variance_scale_shift": "actsparse.methods.mitigations.variance_scale_shift:VarianceScaleShift",
    "smoothing": "actsparse.methods.mitigations.smoothing:Smoothing",
    "low_rank": "actsparse.methods.mitigations.low_rank:LowRank",
    "stored_weights": "actsparse.methods.mitigations.stored_weights:StoredWeights",
}

# Those that need the statistics of calibration inputs (smoothing: unless it is as published).
MITIGATIONS_WITH_STATISTICS = {"shift_static", "smoothing"}
# Those with parameters that a job of their own trains (learned_shift: unless it is as published, untrained).
TRAINED_MITIGATIONS = {"learned_shift", "scale_shift", "variance_scale_shift"}
