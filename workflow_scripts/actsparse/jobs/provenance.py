"""What a result depends on: source code, packages, commit."""

import ast
import hashlib
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARY = Path(__file__).parent.parent
REPORTED_PACKAGES = ("torch", "transformers", "lm_eval", "datasets", "tokenizers", "numpy", "safetensors")


def source_digest(script: str | Path, modules: Iterable[str] = ()) -> str:
    """Return a digest of a script and all library modules that it imports, directly or not.

    `modules` adds library modules ("actsparse.methods.patterns.n_of_m") that are imported by name at run
    time.
    Comments, docstrings and layout do not count, so a job is not run again for an edit that cannot change
    its result. Nor do imports inside functions of the library (name them in `modules` where a job uses them)
    and package files (__init__.py), which hold registries: a new method must not rerun the old ones.
    """
    pending = [*_imports(Path(script), nested=True), *filter(None, map(_module_file, modules))]
    reached: set[Path] = {Path(script)}
    while pending:
        path = pending.pop()
        if path not in reached:
            reached.add(path)
            pending.extend(_imports(path))
    code = "".join(f"{path.stem}\n{_code(path)}\n" for path in sorted(reached))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on."""
    found = {}
    for name in REPORTED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of the checkout, with "-dirty" when it has changes; None outside a checkout."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=LIBRARY,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or None


def _module_file(module: str) -> Path | None:
    if module.split(".")[0] != "actsparse":
        return None
    path = LIBRARY.joinpath(*module.split(".")[1:])
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


@cache
def _imports(path: Path, nested: bool = False) -> frozenset[Path]:
    modules = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(filter(None, map(_module_file, modules)))


@cache
def _code(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
