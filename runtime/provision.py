"""What a node has of models when it starts: from folders here, or from the node above it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from runtime.errors import InvalidConfig
from runtime.fetch import fetch_manifest, fetch_pieces
from runtime.files import cache_dir
from runtime.inference.engine import Engine
from runtime.messages import Tier
from runtime.models.manifest import Manifest, StoredFile, load_manifest
from runtime.models.pieces import Piece, all_pieces
from runtime.models.store import ArtifactStore, StoredModel, manifest_file
from runtime.protocol.residency import Residency
from runtime.session import Session
from runtime.transport import Context


class ModelSources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a node's models come from, and when."""

    model_dirs: tuple[str, ...] = ()
    """Folders of built models."""
    models: tuple[str, ...] = ()
    """Names of models that are fetched from the node above: their manifests at the start, their files when first needed."""
    preload: bool | None = None
    """Whether everything is loaded before the node serves.  None: of folders, unless memory is bounded."""
    store_dir: str = ""
    """Where fetched files are kept; empty for one place in the cache that this host's nodes share."""
    store_bytes: int = 4 << 30
    """Most bytes of fetched files on disk."""


class Provision(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about models that a node is made of."""

    engines: dict[str, Engine]
    manifests: dict[str, StoredFile]
    """The files that describe the models."""
    store: ArtifactStore
    residency: Residency | None
    """None: everything is in memory for good."""

    @property
    def in_memory(self) -> bool:
        """Whether everything is."""
        return self.residency is None


def provide(sources: ModelSources, tier: Tier, memory_bytes: int | None, context: Context, upstream: str) -> Provision:
    """Get manifests, and load everything if that is wanted; blocks until it is done.

    Raises UnknownModel, PeerLost, WrongContent, NotStored as `fetch_manifest`; InvalidConfig when models are to be
    fetched and there is no node above, or everything is to be loaded into too little memory.
    """
    folders = [Path(folder) for folder in sources.model_dirs]
    store = ArtifactStore(Path(sources.store_dir) if sources.store_dir else cache_dir() / "fetched", sources.store_bytes, folders)
    found = {manifest.model: (manifest, manifest_file(folder)) for folder, manifest in _manifests(folders)}
    to_fetch = [name for name in sources.models if name not in found]
    preload = sources.preload if sources.preload is not None else bool(folders) and not to_fetch and memory_bytes is None
    with ExitStack() as stack:
        session = None
        if to_fetch:
            if not upstream:
                raise InvalidConfig(f"{', '.join(to_fetch)} cannot be fetched without an upstream; give the node model_dirs or an upstream")
            session = stack.enter_context(Session(context, upstream))
            found.update((name, fetch_manifest(session, name, store)) for name in to_fetch)
        engines = {name: Engine(StoredModel(manifest, store)) for name, (manifest, _) in found.items()}
        residency = Residency([manifest for manifest, _ in found.values()], memory_bytes)
        if preload:
            for manifest, _ in found.values():
                _load_all(manifest, tier, engines[manifest.model], residency, store, session if manifest.model in to_fetch else None)
    bounded = memory_bytes is not None or not preload
    files = {name: file for name, (_, file) in found.items()}
    return Provision(engines=engines, manifests=files, store=store, residency=residency if bounded else None)


def first_model(sources: ModelSources) -> str:
    """The one that a node's emulation and fallback are about.  Raises InvalidConfig for none, and what `load_manifest` raises."""
    if sources.model_dirs:
        return load_manifest(Path(sources.model_dirs[0])).model
    if not sources.models:
        raise InvalidConfig("a node serves at least one model: give it model_dirs or models")
    return sources.models[0]


def _manifests(folders: list[Path]) -> Iterator[tuple[Path, Manifest]]:
    for folder in folders:
        yield folder, load_manifest(folder)


def _load_all(manifest: Manifest, tier: Tier, engine: Engine, residency: Residency, store: ArtifactStore, session: Session | None) -> None:
    pieces: list[Piece] = all_pieces(manifest, tier)
    if residency.admit(pieces, {*residency}) is None:
        raise InvalidConfig(
            f"all of {manifest.model} does not fit into model_memory_bytes = {residency.max_bytes} on the {tier};"
            " leave out preload = true, or allow more memory"
        )
    if session is not None:
        fetch_pieces(session, manifest, pieces, store)
    for piece in pieces:
        engine.load(piece.variant, piece.start, piece.stop, piece.exit)
