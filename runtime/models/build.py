"""The model directory of a zoo entry: found in the cache, or built there.

Nodes import this module, and a node has neither torch nor onnx nor scikit-learn.  The builder that needs them is
therefore imported by name, and only when there is something to build.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runtime.errors import MissingExtra, UnknownModel
from runtime.files import cache_dir
from runtime.models.examples import EXAMPLES_NAME
from runtime.models.manifest import load_manifest
from runtime.models.zoo import ModelSpec, find_spec

Progress = Callable[[str, float], None]

_SOURCES = (
    "../inference/confidence",
    "batch_axis",
    "builder",
    "cutting",
    "compression",
    "counting",
    "datasets/cifar",
    "datasets/digits",
    "datasets/folder",
    "datasets/idx",
    "datasets/splitting",
    "evaluation",
    "examples",
    "exits",
    "export",
    "factories",
    "fitting",
    "flops",
    "half",
    "logits",
    "manifest",
    "network",
    "pixels",
    "pruning",
    "reference",
    "staged",
    "staging",
    "trunk",
    "variants",
    "weights",
)
"""Modules, from this package's folder, whose code decides what a built model is."""


def ensure_model(name: str, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """The directory of a built model, building it first when the cache (default: `cache_dir()`) has none.

    `progress` hears a phase and the share done, 0..1.  One process builds, others wait for it; what is in the cache
    under its final name is always whole.  Raises UnknownModel for a name that the zoo does not have, MissingExtra
    when something must be built and the `train` extra is not installed.
    """
    spec = find_spec(name)
    directory = _directory(spec, cache)
    if not _is_whole(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _locked(directory.parent / f".{directory.name}.lock"):
            if not _is_whole(directory):
                _build_into(spec, directory, progress or _silent)
    return directory


def find_model(name: str, cache: Path | None = None) -> Path | None:
    """The directory of a model that is built already, else None.  Raises UnknownModel for a name that the zoo does not have."""
    directory = _directory(find_spec(name), cache)
    return directory if _is_whole(directory) else None


def content_key(spec: ModelSpec) -> str:
    """SHA-256 over the specification and the building code; comments and docstrings do not count."""
    digest = hashlib.sha256(msgspec.json.encode(spec, order="deterministic"))
    for source in _SOURCES:
        digest.update(_code((Path(__file__).parent / f"{source}.py").read_text(encoding="utf-8")).encode())
    if spec.factory.startswith("runtime.models.networks."):
        for path in sorted((Path(__file__).parent / "networks").glob("*.py")):
            digest.update(_code(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def _code(text: str) -> str:
    """A module's syntax tree without its docstrings, as text."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [child for child in body if not _is_docstring(child)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _directory(spec: ModelSpec, cache: Path | None) -> Path:
    return (cache or cache_dir()) / "models" / f"{spec.name}-{content_key(spec)[:16]}"


def _is_whole(directory: Path) -> bool:
    try:
        load_manifest(directory)
    except UnknownModel:
        return False
    return (directory / EXAMPLES_NAME).is_file()


def _build_into(spec: ModelSpec, directory: Path, progress: Progress) -> None:
    """Build beside, then rename.  The caller holds the lock: whatever an interrupted build left behind is removed."""
    unfinished = directory.with_name(f".{directory.name}.building")
    for leftover in (unfinished, directory):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir()
    _builder()(spec, unfinished, progress)
    os.rename(unfinished, directory)


def _builder() -> Callable[[ModelSpec, Path, Progress], None]:
    try:
        build: Callable[[ModelSpec, Path, Progress], None] = importlib.import_module("runtime.models.builder").build
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"building a model needs {exc.name}: pip install 'drlctl[train]'") from exc
    return build


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system releases it if this process dies."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _silent(phase: str, share: float) -> None:
    """Nobody listens."""
