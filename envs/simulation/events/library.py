"""A node's model files and sessions in virtual time: what runtime/librarian.py does with two threads, one for each."""

from __future__ import annotations

from collections.abc import Callable

from envs.simulation.events.clock import Clock
from runtime.loading_profile import LoadingProfile
from runtime.messages import CHUNK_BYTES
from runtime.models.manifest import Manifest, StoredFile, segment_key
from runtime.models.pieces import Piece, files_of
from runtime.protocol.events import FileKept, KeepFile, Load, Loaded, PartRead, ReadPart, Unload

Job = Load | Unload | KeepFile | ReadPart
Done = Callable[[Loaded | FileKept | PartRead], None]

_NOTHING = bytes(CHUNK_BYTES)
"""What files hold here: machines look at how long chunks are, never into them."""


class Library:
    """Carries out what concerns model files.  Jobs of one kind wait for one another, as they do in their thread."""

    def __init__(self, clock: Clock, loading: LoadingProfile, manifest: Manifest, has_files: bool, done: Done) -> None:
        """`has_files`: all are here from the start, else none.  `done` is told when a job is."""
        self._clock, self._loading, self._manifest, self._done = clock, loading, manifest, done
        self._size = {file.sha256: file.num_bytes for file in stored_files(manifest)}
        self._here = set(self._size) if has_files else set[str]()
        self._with_weights: set[Piece] = set()
        self._sessions_free_s = self._files_free_s = 0.0

    def perform(self, job: Job) -> None:
        """Begin a job, or queue it."""
        match job:
            case Load(piece=piece):
                self._load(piece)
            case Unload(piece=piece):
                self._with_weights.discard(piece)
            case KeepFile(sha256=name):
                at_s = self._after_files(self._loading.keep_s + self._loading.keep_s_per_byte * self._size[name])
                self._clock.at(at_s, self._keep, FileKept(sha256=name, at_s=at_s))
            case ReadPart():
                self._read(job)

    def _load(self, piece: Piece) -> None:
        """Its session is made of its files; where some are missing it is said at once."""
        files = files_of(self._manifest, piece)
        missing = tuple(file for file in files if file.sha256 not in self._here)
        took_s = 0.0 if missing else self._load_s(piece)
        self._sessions_free_s = at_s = max(self._clock.now_s, self._sessions_free_s) + took_s
        self._clock.at(at_s, self._done, Loaded(piece=piece, at_s=at_s, missing=missing))

    def _load_s(self, piece: Piece) -> float:
        info = self._loading.variants[piece.variant]
        load_s = info.load_s(piece.start, piece.stop)
        if info.weights_bytes and segment_key(piece.start, piece.stop, piece.exit) not in info.standalone:
            if all(other.variant != piece.variant for other in self._with_weights):
                load_s += info.weights_s
            self._with_weights.add(piece)
        return load_s

    def _keep(self, kept: FileKept) -> None:
        self._here.add(kept.sha256)
        self._done(kept)

    def _read(self, job: ReadPart) -> None:
        """The first part of a file is read with all of it, to verify it."""
        size = self._size[job.sha256] if job.sha256 in self._here else 0
        at_s = self._after_files(0.0 if job.offset else self._loading.read_s_per_byte * size)
        data = _NOTHING[: max(0, size - job.offset)] if size else None
        self._clock.at(at_s, self._done, PartRead(part=job, at_s=at_s, data=data, num_bytes=size))

    def _after_files(self, took_s: float) -> float:
        self._files_free_s = max(self._clock.now_s, self._files_free_s) + took_s
        return self._files_free_s


def stored_files(manifest: Manifest) -> list[StoredFile]:
    """Every file that pieces of the model are loaded from."""
    return [
        file
        for info in manifest.variants.values()
        for file in (*info.segments.values(), *((info.weights,) if info.weights is not None else ()))
    ]
