"""Names that everything else is said with, and the checks that all structs share."""

from __future__ import annotations

from typing import Literal

WIRE_VERSION = 2

Tier = Literal["device", "edge", "cloud"]
TIERS: tuple[Tier, Tier, Tier] = ("device", "edge", "cloud")

Status = Literal["ok", "deadline", "overload", "peer_lost", "bad_input", "internal"]
"""`ok`, or the one reason why a request failed."""

DecidedBy = Literal["controller", "fallback", "client", "nobody"]

Reused = Literal["no", "cache-exact", "cache-similar", "filter-unchanged", "filter-irrelevant"]
"""`no`: computed for this request.  Else why nothing was: an equal or a similar input's answer was known, or the frame
of a stream had not changed or showed nothing of interest."""

MAX_NAME_CHARS = 128
NUM_REQUEST_IDS = 1 << 50
"""Ids of requests and measurements are below; negative ones are probes, those from here on transfers of training."""
INF = float("inf")  # chained comparisons with it refuse NaN too, and cost a tenth of math.isfinite in a loop


def complain(owner: object, *names: str) -> None:
    """Raise ValueError for the first of these fields that is not finite and >= 0."""
    for name in names:
        value = getattr(owner, name)
        if not 0.0 <= value < INF:
            raise ValueError(f"{type(owner).__name__}.{name} must be finite and >= 0, got {value!r}")


def check_request_id(owner: object, request_id: int) -> None:
    """Raise ValueError for an id that is taken for something else than a request."""
    if not 0 <= request_id < NUM_REQUEST_IDS:
        raise ValueError(f"{type(owner).__name__}.request_id must be in 0..2^50 - 1, got {request_id}")


def check_tenant(tenant: str) -> None:
    """Raise ValueError for a tenant's name that is too long."""
    if len(tenant) > MAX_NAME_CHARS:
        raise ValueError(f"a tenant's name has at most {MAX_NAME_CHARS} characters, got {len(tenant)}")
