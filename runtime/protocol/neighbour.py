"""A node of the same tier that takes work over: the connection to it, and what of its load its reports do not show yet."""

from __future__ import annotations

import math

from runtime.codec import num_bytes
from runtime.codecs.parcel import Parcel
from runtime.messages import Pong, Work
from runtime.protocol.connection import Connection
from runtime.protocol.events import Send
from runtime.protocol.handover import finish_there_s
from runtime.protocol.payload_sizes import HEADER_BYTES
from runtime.protocol.remainder import expected_wait_s


class Neighbour:
    """One neighbour, as the node sees it that hands work over.

    Between two reports it may be given many requests.  Each counts as waiting there until a report comes that was made
    after its arrival: acknowledgement and report take the same way, so it is the first one behind the acknowledgement.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._unreported_s: dict[int, float] = {}
        self._arrived: set[int] = set()

    def finish_s(self, parcel: Parcel, expected_s: float, tenant: str, at_s: float) -> float:
        """Seconds until its answer to this work would be here, which takes it `expected_s`; infinite when it is not heard of."""
        reports = self.connection.telemetry(at_s)
        if not reports:
            return math.inf
        (link, *_) = self.connection.link_views(at_s, self.connection.outstanding_bytes)
        wait_s = expected_wait_s(reports[0], tenant) + math.fsum(self._unreported_s.values())
        return finish_there_s(link, num_bytes(parcel.frames) + HEADER_BYTES, wait_s, expected_s)

    def give(self, work: Work, parcel: Parcel, expected_s: float, at_s: float) -> tuple[Send, int]:
        """Hand work over: what to send, and its bytes."""
        self._unreported_s[work.request_id] = expected_s
        send, size, _ = self.connection.payload(work.request_id, work, parcel, at_s)
        return send, size

    def on_ack(self, request_id: int, at_s: float) -> None:
        """It has that work."""
        self._arrived.add(request_id)
        self.connection.on_ack(request_id, at_s)

    def on_pong(self, pong: Pong, at_s: float) -> None:
        """Its report: what had arrived is in it."""
        for request_id in self._arrived:
            self._unreported_s.pop(request_id, None)
        self._arrived.clear()
        self.connection.on_pong(pong, at_s)

    def forget(self, request_id: int) -> None:
        """That work is not its any more."""
        self._unreported_s.pop(request_id, None)
        self.connection.forget(request_id)

    def forget_all(self) -> None:
        """Nothing is."""
        self._unreported_s.clear()
        self._arrived.clear()
        self.connection.forget_transfers()
