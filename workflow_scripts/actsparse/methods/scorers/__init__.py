"""Scorers: what ranks the elements of a site. One file and one line here make a new one."""

SCORERS = {
    "magnitude": "actsparse.methods.scorers.magnitude:Magnitude",
    "clact": "actsparse.methods.scorers.clact:Clact",
    "amber": "actsparse.methods.scorers.amber:Amber",
    "wina": "actsparse.methods.scorers.wina:Wina",
    "random": "actsparse.methods.scorers.random:Random",
    "wanda": "actsparse.methods.scorers.wanda:Wanda",
    "sparsegpt": "actsparse.methods.scorers.sparsegpt:SparseGPT",
    "cats": "actsparse.methods.scorers.cats:Cats",
}

# Those that a site's statistics are calibrated for (clact: unless it is as published).
SCORERS_WITH_STATISTICS = {"clact", "wanda"}
# Those whose pruned weights are computed by a job of their own.
SCORERS_WITH_PRUNED_WEIGHTS = {"sparsegpt"}
