"""The threads of a node that touch model files: one reads and keeps them, one makes sessions of them.

Two, because making sessions may take seconds, and the nodes below should not wait so long for a chunk.  Both hand their
results over through `done` and wake the poll loop.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from runtime.errors import DrlctlError, MissingFile, NotStored, WrongContent
from runtime.inference.engine import Engine
from runtime.messages import CHUNK_BYTES
from runtime.models.pieces import Piece, files_of
from runtime.models.store import ArtifactStore
from runtime.protocol.events import FileKept, KeepFile, Load, Loaded, PartRead, ReadPart, Unload

Job = Load | Unload | KeepFile | ReadPart
Done = Loaded | FileKept | PartRead


class Librarian:
    """Carries out what concerns model files.  Its threads are started by the first job that needs them; `close` ends them."""

    def __init__(self, engines: Mapping[str, Engine], store: ArtifactStore, wake: Callable[[], None]) -> None:
        self._engines, self._store = engines, store
        self.done: deque[Done] = deque()
        self._files = _JobThread("files", self._perform, self.done, wake)
        self._sessions = _JobThread("sessions", self._perform, self.done, wake)

    def submit(self, job: Job) -> None:
        """Queue a job; its event, if it has one, appears in `done`."""
        (self._sessions if isinstance(job, Load | Unload) else self._files).submit(job)

    def close(self) -> None:
        """Stop after the running jobs; safe to call twice."""
        self._files.close()
        self._sessions.close()

    def _perform(self, job: Job) -> Done | None:
        match job:
            case Load(piece=piece):
                return self._load(piece)
            case Unload(piece=piece):
                self._engines[piece.model].unload(piece.variant, piece.start, piece.stop, piece.exit)
                self._store.release(piece)
                return None
            case KeepFile():
                return self._keep(job)
            case ReadPart():
                part = self._store.read_part(job.sha256, job.offset, CHUNK_BYTES)
                data, num_bytes = (part.data, part.num_bytes) if part is not None else (None, 0)
                return PartRead(part=job, at_s=time.perf_counter(), data=data, num_bytes=num_bytes)

    def _load(self, piece: Piece) -> Loaded:
        """Its files stay held while some are missing: fetching one must not evict another."""
        engine = self._engines[piece.model]
        files = files_of(engine.manifest, piece)
        self._store.hold(piece, [file.sha256 for file in files])
        missing, error = tuple(file for file in files if not self._store.has(file.sha256)), ""
        try:
            if not missing:
                engine.load(piece.variant, piece.start, piece.stop, piece.exit)
        except MissingFile as exc:
            missing = tuple(file for file in files if file.sha256 == exc.sha256)
        except Exception as exc:  # noqa: BLE001  # the engine is a foreign library: whatever it raises must end requests, not the node
            error = str(exc) if isinstance(exc, DrlctlError) else f"{type(exc).__name__}: {exc}"
        if not missing:
            self._store.release(piece)
        return Loaded(piece=piece, at_s=time.perf_counter(), missing=missing, error=error)

    def _keep(self, job: KeepFile) -> FileKept:
        try:
            self._store.keep(job.sha256, b"".join(job.chunks))
        except WrongContent as exc:
            return FileKept(sha256=job.sha256, at_s=time.perf_counter(), reason="corrupt", error=str(exc))
        except NotStored as exc:
            return FileKept(sha256=job.sha256, at_s=time.perf_counter(), reason="storage", error=str(exc))
        return FileKept(sha256=job.sha256, at_s=time.perf_counter())


class _JobThread:
    """One thread that performs jobs in order."""

    def __init__(self, name: str, perform: Callable[[Job], Done | None], done: deque[Done], wake: Callable[[], None]) -> None:
        self._name, self._perform, self._done, self._wake = name, perform, done, wake
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        self._stopping.set()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopping.is_set():
            done = self._perform(job)
            if done is not None:
                self._done.append(done)
                self._wake()
