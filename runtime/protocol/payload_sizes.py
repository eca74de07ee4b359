"""How many bytes a decision will put on the links: known beforehand without compression, learned with it."""

from __future__ import annotations

from runtime.codecs import find_codec
from runtime.codecs.parcel import IDENTITY
from runtime.messages import Decision
from runtime.protocol.hosted_models import HostedModels

HEADER_BYTES = 160
"""Estimate of a Work message's header (measured: 120 to 180)."""
SMOOTHING = 0.2
"""Weight of the last message in what a compressed cut is expected to take."""


class PayloadSizes:
    """Expected bytes of a Work message per model, variant, cut and codec."""

    def __init__(self, models: HostedModels) -> None:
        self._models = models
        self._known: dict[tuple[str, str, int, str], float] = {}

    def expected_bytes(self, decision: Decision, cut: int) -> int:
        """What crossing this cut will send: as seen lately, before that the codec's upper bound."""
        key = (decision.model, decision.variant, cut, decision.codec)
        if key not in self._known:
            specs, codec = self._models.of(decision).variants[decision.variant].cuts[cut], find_codec(decision.codec)
            self._known[key] = sum(codec.bytes_estimate(spec) for spec in specs) + HEADER_BYTES
        return round(self._known[key])

    def saw(self, decision: Decision, uplink_bytes: int, wan_bytes: int) -> None:
        """A request sent so many bytes up (0: it did not); without compression there is nothing to learn."""
        if decision.codec == IDENTITY:
            return
        for cut, sent_bytes in zip(decision.cuts, (uplink_bytes, wan_bytes), strict=True):
            key = (decision.model, decision.variant, cut, decision.codec)
            if sent_bytes and key in self._known:
                self._known[key] += SMOOTHING * (sent_bytes - self._known[key])
