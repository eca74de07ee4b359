"""Examples that clients have uploaded, at the root of a centralised job: each client's from the first on, without a gap.

With a folder every piece is a file of its own, so that a restarted root goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from runtime.errors import InvalidTensor
from runtime.files import write_atomically
from runtime.models.examples import Examples
from runtime.training.protocol.central_tasks import Held

SUFFIX = ".examples.safetensors"


class ReceivedExamples:
    """Pieces by client.  `like`: examples of the same job, whose form and classes theirs must have."""

    def __init__(self, like: Examples, num_classes: int, folder: Path | None) -> None:
        self._like, self._num_classes, self._folder = like, num_classes, folder
        self._pieces: dict[str, list[Examples]] = {}
        self._totals: dict[str, int] = {}
        if folder is not None and folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.is_dir():
                    self._read(path)

    def held(self, client: str) -> Held:
        """What there is of a client's."""
        num = sum(len(piece.labels) for piece in self._pieces.get(client, ()))
        return Held(num=num, total=self._totals.get(client, 0))

    def all_held(self) -> dict[str, Held]:
        """Of every client that has sent any."""
        return {client: self.held(client) for client in self._pieces}

    def add(self, client: str, first: int, total: int, piece: Examples) -> int:
        """Keep a piece if it is the next one; bytes that are new, 0 for a piece that is here already.

        A client that says it has another number of examples than before is another one: its old examples are dropped.
        Raises InvalidTensor for examples of another form, OSError when the disk does not take them.
        """
        self._check(piece, first, total)
        if self._totals.get(client, total) != total:
            self._forget(client)
        if first != self.held(client).num:
            return 0
        if self._folder is not None:
            tensors = {"images": piece.images, "labels": piece.labels, "total": np.array(total)}
            write_atomically(self._folder / quote(client, safe="") / f"{first}{SUFFIX}", save(tensors))
        self._pieces.setdefault(client, []).append(piece)
        self._totals[client] = total
        return piece.images.nbytes + piece.labels.nbytes

    def joined(self, clients: tuple[str, ...]) -> Examples:
        """All examples of these clients, in this order."""
        pieces = [piece for client in clients for piece in self._pieces[client]]
        return Examples(
            images=np.concatenate([piece.images for piece in pieces]), labels=np.concatenate([piece.labels for piece in pieces])
        )

    def _check(self, piece: Examples, first: int, total: int) -> None:
        images, labels, like = piece.images, piece.labels, self._like.images
        if images.dtype != like.dtype or images.shape[1:] != like.shape[1:] or labels.dtype != np.int64:
            raise InvalidTensor(
                f"examples of this job are {like.dtype}{list(like.shape[1:])} with int64 labels, "
                f"got {images.dtype}{list(images.shape[1:])} with {labels.dtype}"
            )
        if labels.shape != images.shape[:1] or not labels.size or first + labels.size > total:
            raise InvalidTensor(f"{images.shape[:1]} images and {labels.shape} labels from {first} on do not fit {total} examples")
        if not 0 <= labels.min() <= labels.max() < self._num_classes:
            raise InvalidTensor(f"labels must be indices of {self._num_classes} classes")
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            raise InvalidTensor("examples have infinities or NaN")

    def _forget(self, client: str) -> None:
        self._pieces.pop(client, None)
        self._totals.pop(client, None)
        if self._folder is not None:
            for path in (self._folder / quote(client, safe="")).glob(f"*{SUFFIX}"):
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> None:
        """What is whole, up to the first piece that is not: from there on the client sends again."""
        client = unquote(path.name)
        while (file := path / f"{self.held(client).num}{SUFFIX}").is_file():
            try:
                tensors = load(file.read_bytes())
                piece, total = Examples(images=tensors["images"], labels=tensors["labels"]), int(tensors["total"])
                self._check(piece, self.held(client).num, total)
            except (SafetensorError, KeyError, TypeError, InvalidTensor, msgspec.ValidationError):
                return
            self._pieces.setdefault(client, []).append(piece)
            self._totals[client] = total
