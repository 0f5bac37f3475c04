"""Writes envs/*.yaml from envs/*.in and envs/constraints.txt: python workflow_scripts/pin_environments.py

An `.in` file names what the jobs of an environment import. In the environment that is made of it stands every
package that these need, in the version of constraints.txt, so that it is the same wherever it is made. What
needs what is read from the installed packages, as for Python 3.12 on Linux; what torch's builds for GPUs need
besides, torch itself asks for in exact versions.
"""

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

ENVS = Path(__file__).parent.parent / "envs"
PYTHON = "3.12"
# What markers are asked about.
THERE = {
    "python_version": PYTHON,
    "python_full_version": f"{PYTHON}.0",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}
HEAD = """\
# {what}, and all that this needs.
# Written by workflow_scripts/pin_environments.py from {name}.in and constraints.txt.
channels:
  - conda-forge
dependencies:
  - python={python}
  - pip
  - pip:
"""


def normal(name: str) -> str:
    """Return a package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> dict[str, str]:
    """Return the version of each package in constraints.txt."""
    lines = (ENVS / "constraints.txt").read_text().split()
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def needed(names: list[str]) -> set[str]:
    """Return these packages and all that they need, with the extras that are asked for.

    Raises ValueError naming a package that is not installed here.
    """
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        for extra in {"", *requirement.extras}:
            place = normal(requirement.name), extra
            if place in found:
                continue
            found.add(place)
            try:
                below = [Requirement(text) for text in requires(requirement.name) or []]
            except PackageNotFoundError:
                raise ValueError(
                    f"{requirement.name}: is not installed, so what it needs is not known"
                ) from None
            waiting += [
                one for one in below if one.marker is None or one.marker.evaluate(THERE | {"extra": extra})
            ]
    return {name for name, _ in found}


def environment(name: str) -> str:
    """Return the text of an environment's file."""
    what, *lines = (ENVS / f"{name}.in").read_text().splitlines()
    versions = constraints()
    head = HEAD.format(what=what.lstrip("# ").rstrip("."), name=name, python=PYTHON)
    return head + "".join(f"      - {each}=={versions[each]}\n" for each in sorted(needed(lines)))


if __name__ == "__main__":
    for source in sorted(ENVS.glob("*.in")):
        (ENVS / f"{source.stem}.yaml").write_text(environment(source.stem))
