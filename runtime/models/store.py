"""Model files by content hash: those of local model folders, and those that were fetched and are kept in a directory.

    <directory>/<sha256>      one file each; its modification time is when it was used last

The directory is all the state there is, so that it outlives the process and several nodes of one host may share it: a
file that another one evicted is merely missing.  Files appear whole or not at all, and every reading of a whole file
verifies it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from pathlib import Path

import msgspec

from runtime.errors import MissingFile, NotStored, WrongContent
from runtime.files import write_atomically
from runtime.models.manifest import MANIFEST_NAME, Manifest, StoredFile, load_manifest

log = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{64}")
LEFT_BEHIND_S = 3600.0
"""A temporary file this old belongs to no living writer."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Some bytes of a file, and how many it has in all."""

    data: bytes
    num_bytes: int


class ArtifactStore:
    """Verified files, from any thread.  `max_bytes` bounds the directory, not the folders, which are only read.

    Raises UnknownModel for a folder that holds no model.
    """

    def __init__(self, directory: Path, max_bytes: int, folders: Sequence[Path] = (), clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._directory, self._max_bytes, self._clock_ns = directory, max_bytes, clock_ns
        self._in_folders: dict[str, Path] = {}
        self._held: dict[Hashable, frozenset[str]] = {}
        self._lock = threading.Lock()
        for folder in folders:
            self._in_folders.update(_files_in(folder))
        _sweep(directory, clock_ns())

    # ------------------------------------------------------------ reading

    def has(self, sha256: str) -> bool:
        """Whether there is such a file; it may still turn out corrupt."""
        return any(os.path.isfile(path) for path in self._places(sha256))

    def read(self, sha256: str) -> bytes | None:
        """The whole file, verified; None when it is not here.  A kept file that is corrupt is removed and counts as missing."""
        for path in self._places(sha256):
            try:
                data = path.read_bytes()
            except OSError:
                continue
            if hashlib.sha256(data).hexdigest() == sha256:
                self._touch(path)
                return data
            if path.parent == self._directory:
                _remove(path)
        return None

    def read_part(self, sha256: str, offset: int, num_bytes: int) -> Part | None:
        """At most so many bytes from `offset` on; None when the file is not here.

        The first part verifies the whole file; whoever puts all parts together verifies the result anyway.
        """
        if offset == 0:
            whole = self.read(sha256)
            return None if whole is None else Part(data=whole[:num_bytes], num_bytes=len(whole))
        for path in self._places(sha256):
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read(num_bytes)
                    size = file.seek(0, 2)
            except OSError:
                continue
            self._touch(path)
            return Part(data=data, num_bytes=size)
        return None

    # ------------------------------------------------------------ keeping

    def keep(self, sha256: str, data: bytes) -> None:
        """Verify and keep a file, evicting the least recently used that nobody holds.

        Raises WrongContent when the bytes are others, NotStored when the disk or this store cannot take them: then nothing
        has been written.
        """
        digest = hashlib.sha256(data).hexdigest()
        if digest != sha256:
            raise WrongContent(f"a file of {len(data)} bytes hashes to {digest[:12]}, expected {sha256[:12]}")
        path = self._directory / sha256
        with self._lock:
            try:
                self._make_room(sha256, len(data))
                write_atomically(path, data)
            except OSError as exc:
                raise NotStored(f"cannot keep a file of {len(data)} bytes in {self._directory}: {exc.strerror}") from exc
        self._touch(path)

    def hold(self, holder: Hashable, hashes: Collection[str]) -> None:
        """Evict none of these, here already or not, until `holder` releases them."""
        with self._lock:
            self._held[holder] = frozenset(hashes)

    def release(self, holder: Hashable) -> None:
        """What this one held may go; safe to call twice."""
        with self._lock:
            self._held.pop(holder, None)

    def kept_bytes(self) -> int:
        """Bytes of all kept files together."""
        return sum(size for _, size, _ in self._kept())

    # ------------------------------------------------------------ details

    def _make_room(self, sha256: str, num_bytes: int) -> None:
        """Evict until the file fits.  Raises NotStored, having evicted nothing, when it cannot."""
        kept = [entry for entry in self._kept() if entry[2].name != sha256]
        held = frozenset[str]().union(*self._held.values())
        excess = sum(size for _, size, _ in kept) + num_bytes - self._max_bytes
        victims = []
        for _, size, path in sorted(kept):
            if excess <= 0:
                break
            if path.name not in held:
                victims.append(path)
                excess -= size
        if excess > 0:
            raise NotStored(
                f"the store {self._directory} of {self._max_bytes} bytes has no room for {num_bytes} more: what it keeps is in use;"
                " give the node a larger store_bytes"
            )
        for path in victims:
            path.unlink(missing_ok=True)

    def _kept(self) -> Iterator[tuple[int, int, Path]]:
        """(last use in ns, bytes, path) of every kept file."""
        for path in self._directory.iterdir() if os.path.isdir(self._directory) else ():
            if _NAME.fullmatch(path.name):
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # another process evicted it
                yield status.st_mtime_ns, status.st_size, path

    def _places(self, sha256: str) -> Iterator[Path]:
        if sha256 in self._in_folders:
            yield self._in_folders[sha256]
        yield self._directory / sha256

    def _touch(self, path: Path) -> None:
        if path.parent == self._directory:
            _set_used(path, self._clock_ns())


class StoredModel:
    """A model whose files are in a store; what an Engine reads from."""

    def __init__(self, manifest: Manifest, store: ArtifactStore) -> None:
        self.manifest, self._store = manifest, store

    def read(self, file: StoredFile) -> bytes:
        """A file's bytes, verified.  Raises MissingFile."""
        data = self._store.read(file.sha256)
        if data is None:
            what = f"file {file.path} of {self.manifest.model} (sha256 {file.sha256[:12]})"
            raise MissingFile(f"{what} is missing or corrupt here", file.sha256)
        return data


def manifest_file(folder: Path) -> StoredFile:
    """A model folder's manifest, as a file like any other."""
    data = (folder / MANIFEST_NAME).read_bytes()
    return StoredFile(path=MANIFEST_NAME, sha256=hashlib.sha256(data).hexdigest(), num_bytes=len(data))


def _files_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """(SHA-256, path) of everything that the folder's manifest names, and of the manifest itself."""
    manifest = load_manifest(folder)
    yield manifest_file(folder).sha256, folder / MANIFEST_NAME
    for info in manifest.variants.values():
        for file in [*info.segments.values(), *([info.weights] if info.weights is not None else [])]:
            yield file.sha256, folder / file.path


def _set_used(path: Path, at_ns: int) -> None:
    try:
        os.utime(path, ns=(at_ns, at_ns))
    except OSError as exc:  # another process evicted it, or owns it: then it merely looks older than it is
        log.debug("cannot mark %s as used: %s", path, exc)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:  # it is another user's, and is verified at every reading anyway
        log.warning("cannot remove the corrupt file %s: %s", path, exc)


def _sweep(directory: Path, now_ns: int) -> None:
    """Remove what interrupted writers left behind."""
    for path in directory.glob(".*") if os.path.isdir(directory) else ():
        try:
            if now_ns - path.stat().st_mtime_ns > LEFT_BEHIND_S * 1e9:
                path.unlink()
        except OSError as exc:  # another process swept it, or owns it
            log.debug("cannot sweep %s: %s", path, exc)
