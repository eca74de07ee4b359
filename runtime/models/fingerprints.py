"""What a model is made of besides its specification, as hashes: the files of a data set, the code of a factory."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import threading
from pathlib import Path

from runtime.errors import InvalidDataset, InvalidModel

INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of packages that somebody installed."""

_PARSING = threading.Lock()
"""Python 3.11 counts the depth of trees that threads parse at once in one place, and then fails with SystemError."""


def hash_data(folder: Path) -> str:
    """SHA-256 over names and contents of all files below a folder.  Raises InvalidDataset when they cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + content)
    except OSError as exc:
        raise InvalidDataset(f"cannot read {exc.filename}: {exc.strerror}") from exc
    return digest.hexdigest()


def hash_factory(target: str) -> str:
    """SHA-256 of the code of the module in `package.module:factory` and of the modules beside it that it imports.

    Empty where it has no source of its own.  Raises InvalidModel when it cannot be looked for or read.
    """
    name = target.partition(":")[0]
    try:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None or not found.origin.endswith(".py"):
            return ""
        texts = [path.read_text(encoding="utf-8") for path in local_sources(name, Path(found.origin))]
        return hashlib.sha256("\0".join(map(code, texts)).encode()).hexdigest()
    except (ImportError, OSError, ValueError, SyntaxError) as exc:
        raise InvalidModel(f"the code of {target!r} cannot be read: {type(exc).__name__}: {exc}; is its folder on PYTHONPATH?") from exc


def local_sources(name: str, path: Path) -> list[Path]:
    """The file of module `name` and those of the modules that it imports, directly or not, out of the folder that it is in itself.

    The module first, then the others sorted.  Installed packages are not followed: their versions are the environment's.
    """
    depth = name.count(".") + (path.name == "__init__.py")
    root = path.parents[depth]
    if not INSTALLED.isdisjoint(root.parts):
        return [path]
    found, waiting = set[Path](), [path]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += _local_imports(current, root)
    return [path, *sorted(found - {path})]


def with_imports(path: Path, package: str) -> list[Path]:
    """A module of `package` and those of the package that it imports by name, directly or not: what its code depends on there.

    Each once, sorted; a module that is not there is left out.
    """
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current not in found and current.is_file():
            found.add(current)
            waiting += [current.with_name(f"{name}.py") for name in _imported_names(current.read_text(encoding="utf-8"), package)]
    return sorted(found)


def code(text: str) -> str:
    """A module's syntax tree without its docstrings, as text: comments and docstrings do not count."""
    with _PARSING:
        tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [child for child in body if not _is_docstring(child)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _imported_names(text: str, package: str) -> list[str]:
    """Modules of a package that a module's text takes something from, or takes whole."""
    with _PARSING:
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.module]
    whole = [alias.name for node in imports if node.module == package for alias in node.names]
    return whole + [str(node.module).removeprefix(f"{package}.") for node in imports if str(node.module).startswith(f"{package}.")]


def _local_imports(path: Path, root: Path) -> list[Path]:
    """Files below `root` that a module there imports, and the `__init__.py` of their packages."""
    with _PARSING:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    package = path.parent.relative_to(root).parts
    wanted = set[tuple[str, ...]]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted.update(tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (*(package[: len(package) + 1 - node.level] if node.level else ()), *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            wanted.update([base, *((*base, alias.name) for alias in node.names)])
    modules = {name[:length] for name in wanted for length in range(1, len(name) + 1)}
    places = [place for parts in modules for place in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py"))]
    return [place for place in places if place.is_file()]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
