"""What a model is made of besides its specification, as hashes: the files of a data set, the code of a factory."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import threading
from pathlib import Path

from runtime.errors import InvalidDataset

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
    """SHA-256 of the module's code in `package.module:factory`; empty where it has no source of its own."""
    found = importlib.util.find_spec(target.partition(":")[0])
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return ""
    return hashlib.sha256(code(Path(found.origin).read_text(encoding="utf-8")).encode()).hexdigest()


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


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
