"""What centralised training asks of trainers: pieces of a client's examples, keeping them at the root, steps on all of them."""

from __future__ import annotations

import msgspec
import numpy as np

from runtime.codecs.parcel import Parcel


class PackExamples(msgspec.Struct, frozen=True, kw_only=True):
    """A client's examples from this one on, as many as one message holds."""

    job: str
    first: int


class PackedExamples(msgspec.Struct, frozen=True, kw_only=True):
    """Images and labels, ready to be sent."""

    job: str
    first: int
    parcel: Parcel = Parcel()
    error: str = ""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What the root has of a client's examples: the first `num` of `total`."""

    num: int
    total: int


class StoreExamples(msgspec.Struct, frozen=True, kw_only=True):
    """Keep these examples of a client, if they are the next ones."""

    job: str
    client: str
    first: int
    total: int
    parcel: Parcel


class StoredExamples(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of the client's examples now, and how many bytes of them are new."""

    job: str
    client: str
    held: Held
    new_bytes: int = 0
    error: str = ""
    """Why nothing was added."""


class CentralSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Take `tau` steps from these weights float32 [P] on the examples of these clients."""

    job: str
    round: int
    tau: int
    weights: np.ndarray
    clients: tuple[str, ...]
    evaluate: bool


class CentralDone(msgspec.Struct, frozen=True, kw_only=True):
    """New weights float32 [P], or why there are none."""

    job: str
    round: int
    weights: np.ndarray | None = None
    loss: float = 0.0
    """Mean over the steps."""
    accuracy: float | None = None
    test_loss: float | None = None
    compute_s: float = 0.0
    """Of the steps; the evaluation is left out."""
    error: str = ""
