"""Which scorers, patterns and mitigations go together, from what each says of itself. No torch here."""

from typing import Any

from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.patterns import PATTERNS
from actsparse.methods.scorers import SCORERS

ANY_SIDE = ("input", "output", "weight")


def refusal(side: str, scorer: str, pattern: str, mitigation: str) -> str | None:
    """Return why a combination makes no sense, in words for the user; None when it does.

    `side` is "input", "output" or "weight"; the others are words of the families. Raises ValueError for a
    word that is none.
    """
    ranks, corrects = SCORERS[scorer].says, MITIGATIONS[mitigation].says
    if side not in ranks.get("ranks", ANY_SIDE):
        allowed = [word for word, other in SCORERS.items() if side in other.says.get("ranks", ANY_SIDE)]
        return f"scorer {scorer} does not rank a layer's {side} (allowed: {', '.join(allowed)})"
    if side not in corrects["corrects"]:
        allowed = [word for word, other in MITIGATIONS.items() if side in other.says["corrects"]]
        return (
            f"mitigation {mitigation} corrects pruned {' or '.join(corrects['corrects'])}s, not a pruned "
            f"{side} (allowed: {', '.join(allowed)})"
        )
    chosen = {word for say in ("of_quantiles", "keeps_all") for word in PATTERNS.that_say(say)}
    others = [word for word in PATTERNS if word not in chosen]
    by_quantiles = PATTERNS[pattern].says.get("of_quantiles")
    if by_quantiles and not ranks.get("thresholds"):
        allowed = [word for word in SCORERS.that_say("thresholds") if side in SCORERS[word].says["ranks"]]
        return (
            f"thresholds are quantiles of magnitudes, not of {scorer} "
            f"(allowed scorers: {', '.join(allowed)}; allowed patterns: {', '.join(others)})"
        )
    if pattern not in ranks.get("patterns", PATTERNS):
        return f"scorer {scorer} does not go with pattern {pattern} (allowed: {', '.join(ranks['patterns'])})"
    if by_quantiles and corrects.get("changes_input"):
        return (
            f"mitigation {mitigation} changes what is pruned, and thresholds are quantiles of the unchanged "
            f"magnitudes (allowed patterns: {', '.join(others)})"
        )
    if ranks.get("unchanged_input") and corrects.get("changes_input"):
        allowed = [
            word
            for word, other in SCORERS.items()
            if side in other.says.get("ranks", ANY_SIDE) and not other.says.get("unchanged_input")
        ]
        return (
            f"scorer {scorer} weighs by the norms of the unchanged input's columns, and {mitigation} prunes "
            f"a changed input (allowed scorers: {', '.join(allowed)})"
        )
    return None


def rotation_refusal(scorer: str, mitigation: str) -> str | None:
    """Return why a scorer or a mitigation does not work in another basis, in words; None if it does.

    Statistics and parameters belong to the channels that they were measured or trained on.
    """
    for name, family, word in (("scorer", SCORERS, scorer), ("mitigation", MITIGATIONS, mitigation)):
        if not _turns(family[word].says):
            allowed = [other for other in family if _turns(family[other].says)]
            return f"{name} {word} knows the inputs' own channels only (allowed: {', '.join(allowed)})"
    return None


def _turns(says: dict[str, Any]) -> bool:
    of_inputs = "input" in says.get("ranks", says.get("corrects", ANY_SIDE))
    return of_inputs and not (says.get("statistics") or says.get("made_by"))


def needs_statistics(scorer: str, mitigation: str, as_published: bool) -> bool:
    """Tell whether scorer or mitigation needs calibration statistics (`actsparse.calibration.statistics`)."""
    return any(
        member.says.get("statistics")
        and not (as_published and member.says.get("from_the_batch_as_published"))
        and not (as_published and member.says.get("made_by_as_published"))
        for member in (SCORERS[scorer], MITIGATIONS[mitigation])
    )


def made_by(scorer: str, mitigation: str, as_published: bool) -> str | None:
    """Return the artifact of what is trained or pruned for scorer or mitigation beforehand, if any."""
    for member in (SCORERS[scorer], MITIGATIONS[mitigation]):
        if as_published and member.says.get("from_the_batch_as_published"):
            continue
        published = member.says.get("made_by_as_published") if as_published else None
        if artifact := published or member.says.get("made_by"):
            return artifact
    return None
