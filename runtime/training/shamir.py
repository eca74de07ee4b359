"""Shamir's secret sharing over a prime field: any `threshold` shares give the secret, fewer say nothing of it.

Source: Shamir, "How to share a secret", CACM 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from runtime.errors import InvalidInput

PRIME = 2**521 - 1
"""A Mersenne prime above any 64-byte secret; shares are elements of its field."""
SECRET_BYTES = 32
SHARE_BYTES = 66

Entropy = Callable[[int], bytes]
"""Unpredictable bytes, as many as asked for: `os.urandom` in earnest, a seeded stream in tests."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the polynomial."""

    x: int
    """1, 2, ...: whose share it is."""
    y: bytes
    """Big-endian, SHARE_BYTES long."""

    def __post_init__(self) -> None:
        if self.x < 1 or len(self.y) != SHARE_BYTES or int.from_bytes(self.y, "big") >= PRIME:
            raise InvalidInput(f"a share has x >= 1 and {SHARE_BYTES} bytes of a field element, got x={self.x}, {len(self.y)} bytes")


def _coefficient(entropy: Entropy) -> int:
    # Twice the bytes leave a bias of about 2^-535 after the reduction, so that no rejection loop is needed.
    return int.from_bytes(entropy(2 * SHARE_BYTES), "big") % PRIME


def split_secret(secret: bytes, num_shares: int, threshold: int, entropy: Entropy) -> list[Share]:
    """Shares at x = 1 .. num_shares.  Raises InvalidInput for another length of secret or a threshold outside 1..num_shares."""
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= num_shares:
        raise InvalidInput(
            f"expected a secret of {SECRET_BYTES} bytes and a threshold in 1..{num_shares}, got {len(secret)} bytes and {threshold}"
        )
    coefficients = [int.from_bytes(secret, "big"), *(_coefficient(entropy) for _ in range(threshold - 1))]
    return [Share(x=x, y=_evaluate(coefficients, x).to_bytes(SHARE_BYTES, "big")) for x in range(1, num_shares + 1)]


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def join_shares(shares: Sequence[Share], threshold: int) -> bytes:
    """The secret, by Lagrange interpolation at 0.  Raises InvalidInput for too few or repeated shares, or when they give no secret."""
    chosen = list(shares)[:threshold]
    if len(chosen) < threshold or len({share.x for share in chosen}) != len(chosen):
        raise InvalidInput(f"expected {threshold} different shares, got x = {[share.x for share in shares]}")
    secret = 0
    for share in chosen:
        numerator, denominator = 1, 1
        for other in chosen:
            if other.x != share.x:
                numerator = numerator * other.x % PRIME
                denominator = denominator * (other.x - share.x) % PRIME
        secret += int.from_bytes(share.y, "big") * numerator * pow(denominator, -1, PRIME)
    secret %= PRIME
    if secret >= 2 ** (8 * SECRET_BYTES):
        raise InvalidInput("shares give no 32-byte secret: they belong to different secrets, or the threshold is another")
    return secret.to_bytes(SECRET_BYTES, "big")
