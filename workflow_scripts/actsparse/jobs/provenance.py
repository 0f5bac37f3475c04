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
    """Return a digest of a script and all library code that it imports, directly or not.

    `modules` adds what is loaded by name at run time: modules ("actsparse.methods.patterns.n_of_m"), or
    single methods ("actsparse.kinds.codebook:Codebook.build") with what they use of their module, where the
    rest of it does not matter. Comments, docstrings and layout do not count, so a job is not run again for an
    edit that cannot change its result. Nor do imports inside functions of the library (name them in `modules`
    where a job uses them); those of the script and of single methods do.
    """
    return hashlib.sha256(source_code(script, tuple(modules)).encode()).hexdigest()[:16]


def source_code(script: str | Path, modules: Iterable[str] = ()) -> str:
    """Return the code that `source_digest` is of, without comments and docstrings."""
    script = Path(script)
    parts = {script.stem: _code(script)}
    pending = list(_imports(script, nested=True))
    for named in modules:
        module, _, name = named.partition(":")
        path = _module_file(module)
        if path is None:
            continue
        if name:
            nodes = _needed_by(path, name)
            parts[named] = "\n".join(map(_text, nodes))
            pending += _imported(nodes)
        else:
            pending.append(path)
    reached: set[Path] = set()
    while pending:
        path = pending.pop()
        if path not in reached:
            reached.add(path)
            pending.extend(_imports(path))
    parts |= {str(path.relative_to(LIBRARY)): _code(path) for path in reached}
    return "".join(f"{name}\n{parts[name]}\n" for name in sorted(parts))


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
    if module.split(".")[0] != LIBRARY.name:
        return None
    path = LIBRARY.joinpath(*module.split(".")[1:])
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if file.is_file()), None)


@cache
def _imports(path: Path, nested: bool = False) -> frozenset[Path]:
    tree = ast.parse(path.read_text())
    return _imported(ast.walk(tree) if nested else tree.body, nested=False)


def _imported(nodes: Iterable[ast.AST], nested: bool = True) -> frozenset[Path]:
    """Return the files of the library that statements import; those inside them too, if `nested`."""
    modules = set()
    for node in (inner for outer in nodes for inner in (ast.walk(outer) if nested else [outer])):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(filter(None, map(_module_file, modules)))


@cache
def _needed_by(path: Path, name: str) -> tuple[ast.AST, ...]:
    """Return a method ("Class.method") and the statements of its module and class that it comes to use."""
    tree = ast.parse(path.read_text())
    owner, _, method = name.partition(".")
    (class_,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner)
    found: dict[int, ast.AST] = {}
    pending = [node for node in class_.body if method in _defined(node)]
    while pending:
        node = pending.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        own = {
            inner.attr
            for inner in ast.walk(node)
            if isinstance(inner, ast.Attribute) and getattr(inner.value, "id", "") in ("self", "cls")
        }
        pending += [other for other in tree.body if used & _defined(other) and other is not class_]
        pending += [other for other in class_.body if own & _defined(other)]
    return tuple(sorted(found.values(), key=lambda node: node.lineno))


def _defined(node: ast.AST) -> set[str]:
    """Return the names that a statement gives a meaning."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.Assign):
        return {
            inner.id for target in node.targets for inner in ast.walk(target) if isinstance(inner, ast.Name)
        }
    return (
        {node.target.id} if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else set()
    )


@cache
def _code(path: Path) -> str:
    compiled = [file.read_text() for file in sorted(path.parent.glob("*.cpp"))]
    return "\n".join([_text(ast.parse(path.read_text())), *compiled])


def _text(tree: ast.AST) -> str:
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
