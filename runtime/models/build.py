"""The model directory of a name: found in the cache, or built there.

Nodes import this module, and a node has neither torch nor onnx nor scikit-learn.  The builder that needs them is
therefore imported by name, and only when there is something to build.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runtime.errors import MissingExtra, UnknownModel
from runtime.files import cache_dir
from runtime.models.examples import EXAMPLES_NAME
from runtime.models.fingerprints import code, with_imports
from runtime.models.manifest import load_manifest
from runtime.models.registry import find_spec
from runtime.models.zoo import ModelSpec

Progress = Callable[[str, float], None]

_SOURCES = (
    "../inference/confidence",
    "alike",
    "batch_axis",
    "builder",
    "cutting",
    "compression",
    "counting",
    "datasets/cifar",
    "datasets/depth",
    "datasets/digits",
    "datasets/folder",
    "datasets/found",
    "datasets/idx",
    "datasets/splitting",
    "evaluation",
    "examples",
    "exits",
    "export",
    "factories",
    "finite",
    "fitting",
    "flops",
    "forms",
    "half",
    "logits",
    "manifest",
    "measuring",
    "network",
    "pixels",
    "pruning",
    "reference",
    "staged",
    "staging",
    "tracing",
    "trunk",
    "variant_names",
    "variants",
    "weights",
)
"""Modules, from this package's folder, whose code decides what a built model is."""


def ensure_model(name: str, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """The directory of a built model, building it first when the cache (default: `cache_dir()`) has none.

    `progress` hears a phase and the share done, 0..1.  One process builds, others wait for it; what is in the cache
    under its final name is always whole.  Raises UnknownModel for a name that neither the zoo nor the registry has,
    MissingExtra when something must be built and the `train` extra is not installed.
    """
    return build_spec(find_spec(name, cache), cache, progress)


def ensure_models(names: Sequence[str], progress: Progress | None = None) -> tuple[Path, ...]:
    """`ensure_model` of several, one after another."""
    return tuple(ensure_model(name, progress=progress) for name in names)


def build_spec(spec: ModelSpec, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Like `ensure_model`, of a specification that need not be registered."""
    directory = _directory(spec, cache)
    if not _is_whole(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _locked(directory.parent / f".{directory.name}.lock"):
            if not _is_whole(directory):
                _build_into(spec, directory, progress or _silent)
    return directory


def find_model(name: str, cache: Path | None = None) -> Path | None:
    """The directory of a model that is built already, else None.  Raises UnknownModel for a name that nobody knows."""
    directory = _directory(find_spec(name, cache), cache)
    return directory if _is_whole(directory) else None


def content_key(spec: ModelSpec) -> str:
    """SHA-256 over the specification and the building code; comments and docstrings do not count."""
    digest = hashlib.sha256(msgspec.json.encode(spec, order="deterministic"))
    here = Path(__file__).parent
    for path in [*(here / f"{source}.py" for source in _SOURCES), *_network_sources(spec.factory)]:
        digest.update(_hash_of(path))
    return digest.hexdigest()


@functools.cache
def _network_sources(factory: str) -> list[Path]:
    """Of a network of the project's own, its module and those it is made of: another network's change builds nothing anew."""
    module, package = factory.partition(":")[0], "runtime.models.networks"
    if not module.startswith(f"{package}."):
        return []
    return with_imports(Path(__file__).parent / "networks" / f"{module.removeprefix(f'{package}.')}.py", package)


@functools.cache
def _hash_of(path: Path) -> bytes:
    """Of a source file's code.  Parsing all of them takes 0.15 s, and they are what they were when this process began."""
    return hashlib.sha256(code(path.read_text(encoding="utf-8")).encode()).digest()


def _directory(spec: ModelSpec, cache: Path | None) -> Path:
    return (cache or cache_dir()) / "models" / f"{spec.name}-{content_key(spec)[:16]}"


def _trained_path(spec: ModelSpec, directory: Path) -> Path:
    """Where the trained weights are kept: other variants and cuts of the same training find them there."""
    same = msgspec.structs.replace(spec, name="trained", variants=("fp32",), flops_shares={}, cuts=(), max_stages=1)
    return directory.parents[1] / "trained" / f"{content_key(same)[:32]}.safetensors"


def _is_whole(directory: Path) -> bool:
    """Whether every file is there, of its size: what a crash or a full disk tore is built again."""
    try:
        manifest = load_manifest(directory)
    except UnknownModel:
        return False
    files = [file for info in manifest.variants.values() for file in (*info.segments.values(), info.weights) if file is not None]
    return all(_has_size(directory / file.path, file.num_bytes) for file in files) and zipfile.is_zipfile(directory / EXAMPLES_NAME)


def _has_size(path: Path, num_bytes: int) -> bool:
    try:
        return path.stat().st_size == num_bytes
    except OSError:
        return False


def _build_into(spec: ModelSpec, directory: Path, progress: Progress) -> None:
    """Build beside, then rename.  The caller holds the lock: whatever an interrupted build left behind is removed."""
    unfinished = directory.with_name(f".{directory.name}.building")
    for leftover in (unfinished, directory):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir()
    _builder()(spec, unfinished, _trained_path(spec, directory), progress)
    os.rename(unfinished, directory)


def _builder() -> Callable[[ModelSpec, Path, Path, Progress], None]:
    try:
        build: Callable[[ModelSpec, Path, Path, Progress], None] = importlib.import_module("runtime.models.builder").build
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
