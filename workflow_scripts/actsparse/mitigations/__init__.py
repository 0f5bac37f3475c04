"""Mitigations: how the error of pruning is corrected. One file and one line here make a new one."""

MITIGATIONS = {
    "none": "actsparse.mitigations.none:NoMitigation",
    "variance": "actsparse.mitigations.variance:Variance",
    "shift": "actsparse.mitigations.shift:Shift",
    "shift_mean": "actsparse.mitigations.shift:MeanShift",
    "shift_static": "actsparse.mitigations.static_shift:StaticShift",
    "learned_shift": "actsparse.mitigations.learned_shift:LearnedShift",
    "scale_shift": "actsparse.mitigations.scale_shift:ScaleShift",
    "variance_scale_shift": "actsparse.mitigations.variance_scale_shift:VarianceScaleShift",
    "smoothing": "actsparse.mitigations.smoothing:Smoothing",
    "low_rank": "actsparse.mitigations.low_rank:LowRank",
    "stored_weights": "actsparse.mitigations.stored_weights:StoredWeights",
}

# Those that need the statistics of calibration inputs (smoothing: unless it is as published).
MITIGATIONS_WITH_STATISTICS = {"shift_static", "smoothing"}
# Those with parameters that a job of their own trains (learned_shift: unless it is as published, untrained).
TRAINED_MITIGATIONS = {"learned_shift", "scale_shift", "variance_scale_shift"}
