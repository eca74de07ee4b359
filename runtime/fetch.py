"""Asking a node for model files from outside its protocol: what a starting node does before it can serve, in plain calls.

A session's connection is nobody's emulated link: what is fetched like this costs what the real network takes.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import msgspec
import numpy.typing as npt

from runtime.errors import PeerLost, UnknownModel, WrongContent
from runtime.messages import CHUNK_BYTES, MAX_NAME_CHARS, Chunk, ChunkQuery, ManifestFound, ManifestQuery, NotHere, NotHereReason
from runtime.models.manifest import MANIFEST_NAME, Manifest, StoredFile
from runtime.models.pieces import Piece, files_of
from runtime.models.store import ArtifactStore
from runtime.patience import Patience
from runtime.session import Session

ANSWER_S = 10.0
"""How long the node above may take for one answer, fetching from its own upstream included."""
AGAIN_S = 0.2
"""After this much silence a question is asked again, at first; what an answer takes over a slow link is learned (runtime/patience.py)."""
TEMPORARY: tuple[NotHereReason, ...] = ("peer_lost", "overload")
"""Reasons that pass: a node that has just started has not heard of its own upstream yet."""

Answer = TypeVar("Answer", ManifestFound, Chunk)
Array = npt.NDArray[Any]


def fetch_manifest(session: Session, model: str, store: ArtifactStore) -> tuple[Manifest, StoredFile]:
    """A model's manifest from the node above, kept, and the file it is in.

    Raises UnknownModel when nobody above serves the model, PeerLost when nobody answers, and what `fetch_file` raises.
    """
    found, _ = _ask(session, ManifestQuery(model=model), ManifestFound, model, Patience(AGAIN_S))
    file = StoredFile(path=MANIFEST_NAME, sha256=found.sha256, num_bytes=found.num_bytes)
    fetch_file(session, file, store)
    try:
        manifest = msgspec.json.decode(store.read(file.sha256) or b"", type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise UnknownModel(f"{session.address} sent no manifest of {model!r} that this version reads: {exc}") from exc
    if manifest.model != model:
        raise UnknownModel(f"{session.address} sent the manifest of {manifest.model!r}, expected {model!r}")
    return manifest, file


def fetch_pieces(session: Session, manifest: Manifest, pieces: list[Piece], store: ArtifactStore) -> None:
    """Every file that the pieces are loaded from, once; those that are here are not fetched.  Raises as `fetch_file`."""
    files = {file.sha256: file for piece in pieces for file in files_of(manifest, piece)}
    for file in files.values():
        fetch_file(session, file, store)


def fetch_file(session: Session, file: StoredFile, store: ArtifactStore) -> None:
    """Have a file in the store: verified, from the node above if it is not there.

    Raises UnknownModel when it is not to be had, PeerLost, WrongContent when its bytes are wrong twice, NotStored.
    """
    if store.read(file.sha256) is not None:
        return
    try:
        store.keep(file.sha256, _receive(session, file))
    except WrongContent:
        store.keep(file.sha256, _receive(session, file))


def _receive(session: Session, file: StoredFile) -> bytes:
    data, patience = bytearray(), Patience(AGAIN_S)
    while True:
        chunk, tensors = _ask(session, ChunkQuery(sha256=file.sha256, offset=len(data)), Chunk, file.sha256, patience, len(data))
        due = min(CHUNK_BYTES, file.num_bytes - len(data))
        if chunk.num_bytes != file.num_bytes or len(tensors) != 1 or tensors[0].nbytes != due:
            raise WrongContent(f"{session.address} sent a part of a file of {chunk.num_bytes} bytes, expected {file.num_bytes}")
        data += tensors[0].tobytes()
        if len(data) == file.num_bytes:
            return bytes(data)


def _ask(
    session: Session, query: ManifestQuery | ChunkQuery, kind: type[Answer], name: str, patience: Patience, offset: int = 0
) -> tuple[Answer, list[Array]]:
    """The answer to a query, asking again while the node above is itself not ready, or silent."""
    asked_at_s = time.perf_counter()
    until_s = asked_at_s + ANSWER_S
    session.send(query)
    trouble, refused = "did not answer", False
    while (now_s := time.perf_counter()) < until_s:
        received = session.receive(min(AGAIN_S if refused else patience.wait_s, until_s - now_s))
        if received is None:
            if not refused:
                patience.asked_again()
            asked_at_s, refused = time.perf_counter(), False
            session.send(query)
            continue
        answer, tensors = received
        if isinstance(answer, kind) and _is_about(answer, name, offset):
            patience.answered(time.perf_counter() - asked_at_s)
            return answer, tensors
        if isinstance(answer, NotHere) and answer.name == name:
            trouble, refused = answer.message, True
            if answer.reason not in TEMPORARY:
                raise UnknownModel(f"{session.address} cannot give {name[:MAX_NAME_CHARS]}: {trouble}")
    raise PeerLost(f"{session.address} gave no {name[:MAX_NAME_CHARS]} within {ANSWER_S:g} s: {trouble}")


def _is_about(answer: ManifestFound | Chunk, name: str, offset: int) -> bool:
    return answer.model == name if isinstance(answer, ManifestFound) else (answer.sha256, answer.offset) == (name, offset)
