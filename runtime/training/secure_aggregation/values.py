"""What clients and server of a secure round tell each other."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from runtime.errors import InvalidConfig
from runtime.training.fixed_point import FixedPoint, Masked
from runtime.training.shamir import Share


class SecureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all parties of a secure round know beforehand."""

    num_clients: int
    """Clients are numbered 1 .. num_clients."""
    threshold: int
    """Survivors without whom the round fails; fewer colluding clients than this learn nothing."""
    num_parameters: int
    fraction_bits: int = 16

    def __post_init__(self) -> None:
        if not self.num_clients // 2 < self.threshold <= self.num_clients or self.threshold < 2 or self.num_parameters < 0:
            # With half or fewer, two disjoint sets of survivors could each give the server one kind of share.
            raise InvalidConfig(
                f"expected a threshold of at least 2 and above half of num_clients, got {self.threshold} of {self.num_clients} "
                f"clients, {self.num_parameters} parameters"
            )

    def fixed_point(self) -> FixedPoint:
        """Room for as many summands as there are clients."""
        return FixedPoint(fraction_bits=self.fraction_bits, max_summands=self.num_clients)


class PublicKeys(msgspec.Struct, frozen=True, kw_only=True):
    """A client's two public keys of this round."""

    seal: bytes
    """Agrees on keys that seal shares."""
    mask: bytes
    """Agrees on the seeds of pair masks."""


class SharePair(msgspec.Struct, frozen=True, kw_only=True):
    """What one client gives another to keep, sealed: a share of its mask key and one of its own seed."""

    mask_key: Share
    own_seed: Share


class Unmasking(msgspec.Struct, frozen=True, kw_only=True):
    """What a survivor reveals: for each other client one share, of either kind, never of both."""

    mask_keys: dict[int, Share]
    """Of clients that dropped out after sharing."""
    own_seeds: dict[int, Share]
    """Of clients whose masked vector counts."""


def expand(seed: bytes, num_parameters: int) -> Masked:
    """A mask [P], uniform mod 2^32, from 32 bytes.  Source: SHAKE-256 as an extendable-output function, FIPS 202."""
    return np.frombuffer(hashlib.shake_256(seed).digest(4 * num_parameters), "<u4").astype(np.uint32)
