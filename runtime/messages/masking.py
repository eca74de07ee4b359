"""Messages of a federated round whose updates the root sees summed only (runtime/training/secure_aggregation).

root ──Round (masking)──► client ──MaskKeys──► root ──KeyBook──► client ──KeyShares──► root ──SealedShares──► client
client, after its local steps ──Contribution (masked)──► root ──Survivors──► client ──Revealed──► root

All but the contribution are small, and go without an Ack: what is lost costs its client the round, not the others.
Numbers are those of the round: the drawn clients are 1 .. num_clients, in the order in which they were drawn.
"""

from __future__ import annotations

import msgspec

from runtime.messages.job_checks import MIN_HIDDEN

MASKED = "masked"
"""Stands for the compressor in a masked Contribution; its one tensor is int32 [P], to be read as uint32."""
KEY_BYTES = 32


class Masking(msgspec.Struct, frozen=True, kw_only=True):
    """A client's place in a masked round."""

    number: int
    num_clients: int
    threshold: int
    """Clients without whom nobody can unmask, and whose sum is the smallest that anybody learns."""
    weight: float
    """In (0, 1], of its update in the sum: its examples over the largest client's."""

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.num_clients or not self.num_clients // 2 < self.threshold <= self.num_clients:
            raise ValueError(f"expected a number in 1..num_clients and a threshold above half of them, got {self}")
        if self.threshold < MIN_HIDDEN:
            raise ValueError(f"a sum hides its parts among {MIN_HIDDEN} clients at least, got a threshold of {self.threshold}")
        if not 0.0 < self.weight <= 1.0:
            raise ValueError(f"a weight in a masked sum is in (0, 1], got {self.weight}")


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """A client's two public keys of one round."""

    seal: bytes
    mask: bytes

    def __post_init__(self) -> None:
        if len(self.seal) != KEY_BYTES or len(self.mask) != KEY_BYTES:
            raise ValueError(f"public keys have {KEY_BYTES} bytes, got {len(self.seal)} and {len(self.mask)}")


class MaskKeys(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client to root: my public keys for this round."""

    job: str
    client: str
    round: int
    keys: KeyPair


class KeyBook(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Root to client: the keys of all who sent theirs in time."""

    job: str
    client: str
    round: int
    keys: dict[int, KeyPair]


class KeyShares(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client to root: a share of my secrets for each other one in the book, sealed so that only that one can read it."""

    job: str
    client: str
    round: int
    sealed: dict[int, bytes]


class SealedShares(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Root to client: what those who shared sealed for it; now it masks with them."""

    job: str
    client: str
    round: int
    sealed: dict[int, bytes]


class Survivors(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Root to client: whose masked updates came."""

    job: str
    client: str
    round: int
    numbers: tuple[int, ...]


class Revealed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client to root: of each other client one share, of its own seed if its update came, of its mask key if not; never both."""

    job: str
    client: str
    round: int
    mask_keys: dict[int, bytes]
    own_seeds: dict[int, bytes]


MaskingMessage = MaskKeys | KeyBook | KeyShares | SealedShares | Survivors | Revealed
