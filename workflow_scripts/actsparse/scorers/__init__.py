"""Scorers: what ranks the elements of a site. One file and one line here make a new one."""

SCORERS = {
    "magnitude": "actsparse.scorers.magnitude:Magnitude",
    "clact": "actsparse.scorers.clact:Clact",
    "amber": "actsparse.scorers.amber:Amber",
    "wina": "actsparse.scorers.wina:Wina",
    "random": "actsparse.scorers.random:Random",
    "wanda": "actsparse.scorers.wanda:Wanda",
    "sparsegpt": "actsparse.scorers.sparsegpt:SparseGPT",
    "cats": "actsparse.scorers.cats:Cats",
}

# Those that a site's statistics are calibrated for (clact: unless it is as published).
SCORERS_WITH_STATISTICS = {"clact", "wanda"}
# Those whose pruned weights are computed by a job of their own.
SCORERS_WITH_PRUNED_WEIGHTS = {"sparsegpt"}
