"""Writes what the pages say of files: python workflow_scripts/document_artifacts.py"""

import re
from pathlib import Path

from actsparse.artifacts import ARTIFACTS

ROOT = Path(__file__).parent.parent
# Between these marks of a page stands the table.
BEGIN, END = "<!-- artifacts -->\n", "<!-- /artifacts -->\n"
PAGES = ("results/README.md", "docs/formats.md")


def table() -> str:
    """Return a Markdown table of all artifacts: path, what is in it, the rules that make it."""
    lines = ["| path | what | made by |", "|---|---|---|"]
    for artifact in ARTIFACTS.values():
        path = re.sub(r"\{(\w+)\}", r"<\1>", artifact.path.replace("{name}", artifact.name))
        given = " (or given by the user)" if artifact.given else ""
        rules = ", ".join(f"`{rule}`" for rule in artifact.rules)
        lines.append(f"| `{path}{'/' * artifact.folder}` | {artifact.what} | {rules}{given} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for page in PAGES:
        before, _, rest = (ROOT / page).read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        (ROOT / page).write_text(f"{before}{BEGIN}{table()}{END}{after}")
