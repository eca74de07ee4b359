"""The memory of a server optimiser, and how it is written into a checkpoint."""

from __future__ import annotations

import msgspec
import numpy as np

from runtime.errors import MalformedMessage


def _nothing() -> np.ndarray:
    return np.zeros(0)


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """What a server optimiser remembers between rounds; a moment that it does not use is empty."""

    num_rounds: int = 0
    first_moment: np.ndarray = msgspec.field(default_factory=_nothing)
    """Float64 [P] or [0]."""
    second_moment: np.ndarray = msgspec.field(default_factory=_nothing)
    """Float64 [P] or [0]."""


class _Checkpoint(msgspec.Struct, frozen=True, kw_only=True, tag="ServerState"):
    num_rounds: int
    first_moment: bytes
    second_moment: bytes


def encode_state(state: ServerState) -> bytes:
    """MessagePack with the moments as little-endian float64."""
    return msgspec.msgpack.encode(
        _Checkpoint(
            num_rounds=state.num_rounds,
            first_moment=state.first_moment.astype("<f8").tobytes(),
            second_moment=state.second_moment.astype("<f8").tobytes(),
        )
    )


def _moment(raw: bytes, expected: np.ndarray) -> np.ndarray:
    if len(raw) != 8 * expected.size:
        raise MalformedMessage(f"server state holds a moment of {len(raw)} bytes, this optimiser and model need {8 * expected.size}")
    values = np.frombuffer(raw, "<f8").astype(np.float64)
    if not np.isfinite(values).all():
        raise MalformedMessage("server state holds a moment that is not finite; start again from an earlier checkpoint")
    return values


def decode_state(blob: bytes, like: ServerState) -> ServerState:
    """Read what `encode_state` wrote.  `like` is the optimiser's `start(P)`; raises MalformedMessage when the state does not fit it."""
    try:
        checkpoint = msgspec.msgpack.decode(blob, type=_Checkpoint)
    except msgspec.MsgspecError as exc:
        raise MalformedMessage(f"not a server state: {exc}") from exc
    if checkpoint.num_rounds < 0:
        raise MalformedMessage(f"server state counts {checkpoint.num_rounds} rounds; expected >= 0")
    return ServerState(
        num_rounds=checkpoint.num_rounds,
        first_moment=_moment(checkpoint.first_moment, like.first_moment),
        second_moment=_moment(checkpoint.second_moment, like.second_moment),
    )
