"""What the trainer's thread is asked to do in a masked round beside training, and what it answers: all that needs secrets or keys."""

from __future__ import annotations

import msgspec

from runtime.messages import KeyPair, Masking


class MakeKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Forget the last round's secrets and draw new ones."""

    job: str
    round: int
    masking: Masking


class KeysMade(msgspec.Struct, frozen=True, kw_only=True):
    """To be sent to the root."""

    job: str
    round: int
    keys: KeyPair | None = None
    error: str = ""


class ShareKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Seal shares of the secrets for all in the book."""

    job: str
    round: int
    keys: dict[int, KeyPair]


class KeysShared(msgspec.Struct, frozen=True, kw_only=True):
    """To be sent to the root, which passes each on to its recipient."""

    job: str
    round: int
    sealed: dict[int, bytes] = {}
    error: str = ""


class Reveal(msgspec.Struct, frozen=True, kw_only=True):
    """Give the shares without which nobody can unmask the sum.  Once: a second set of survivors would unmask more than a sum."""

    job: str
    round: int
    survivors: tuple[int, ...]


class SharesRevealed(msgspec.Struct, frozen=True, kw_only=True):
    """To be sent to the root."""

    job: str
    round: int
    mask_keys: dict[int, bytes] = {}
    own_seeds: dict[int, bytes] = {}
    error: str = ""


class Unmask(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a root's Aggregate: whatever of the round is needed to take the masks off the sum."""

    threshold: int
    numbers: dict[str, int]
    """Of the drawn clients."""
    weights: dict[str, float]
    """Of their updates in the sum."""
    keys: dict[int, KeyPair]
    sharers: tuple[int, ...]
    revealed: dict[int, SharesRevealed]


MaskingTask = MakeKeys | ShareKeys | Reveal
MaskingResult = KeysMade | KeysShared | SharesRevealed
