"""Whether a neighbour, a node of the same tier, should do a piece of work in this node's place.

Load sharing that the sender begins: who has the work compares what it expects of itself and of each neighbour, by
their latest reports, and hands it to the one that would be done first, if that is `margin_s` before itself.

    here    wait for the worker + compute
    there   the later of (the payload's way, the wait for that worker) + compute + the way back

What follows in the tiers above is the same from either and left out, and so is the size of the answer.
Work crosses sideways once: who was handed it does it, or refuses.

Source: Eager, Lazowska, Zahorjan, IEEE TSE SE-12(5), 1986: simple thresholds get most of what load sharing can give;
a limit to how often a job is transferred, here one, keeps it stable under load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from runtime.errors import InvalidConfig
from runtime.messages import LinkView
from runtime.rates import FLOOR_BYTES_PER_S


class HandoverConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an edge hands work to a neighbour."""

    margin_s: float = 0.005
    """How much sooner the neighbour must be expected to be done; covers what reports and link estimates may be wrong by."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin_s < math.inf:
            raise InvalidConfig(f"margin_s must be finite and >= 0, got {self.margin_s}")


def finish_there_s(link: LinkView, num_bytes: int, wait_s: float, expected_s: float) -> float:
    """Seconds from now until a neighbour's answer is here: it waits for its worker while the payload of `num_bytes` travels."""
    sending_s = (link.outstanding_bytes + num_bytes) / max(link.rate_bytes_per_s, FLOOR_BYTES_PER_S)
    return max(sending_s + link.delay_s, wait_s) + expected_s + link.delay_s


def choose(here_s: float, there_s: Mapping[bytes, float], margin_s: float) -> bytes | None:
    """The neighbour that is done first, the first of equals; None when that is not `margin_s` before `here_s`."""
    best = min(there_s, key=there_s.__getitem__, default=None)
    return best if best is not None and there_s[best] + margin_s < here_s else None
