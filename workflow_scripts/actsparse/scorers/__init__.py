"""Scorers: what ranks the elements of a site. One file and one line here make a new one."""

SCORERS = {
    "magnitude": "actsparse.scorers.magnitude:Magnitude",
}
