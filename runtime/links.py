"""One direction of a link: emulating it at the sender, and estimating it from acknowledgements.

Pure: time comes in as arguments, nothing sleeps.  An emulated link is a FIFO with a rate that
follows a trace, then a propagation delay with jitter; control messages (pings, acknowledgements)
see the delay only, being small and sent first.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import msgspec
import numpy as np

from runtime.rates import GRID_S, RateConfig, check_rate, draw_trace, one_jitter_fraction

REQUEST_ID_BITS = 20
"""Low bits of a request id count within its episode; jitter is drawn from them, so it repeats per episode."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """When a payload leaves and lands."""

    sending_s: float
    """Time on the air: transmission alone, without waiting for earlier payloads."""
    arrives_at_s: float


class RateTrace:
    """Cumulative bytes of a piecewise-constant, repeating rate trace."""

    def __init__(self, rates_bytes_per_s: np.ndarray) -> None:
        self._rates: list[float] = rates_bytes_per_s.tolist()  # single numbers are read from lists in a tenth of the time
        self._cumulative: list[float] = [0.0, *np.cumsum(rates_bytes_per_s * GRID_S).tolist()]
        self._period_s = len(rates_bytes_per_s) * GRID_S

    def bytes_until(self, at_s: float) -> float:
        """Bytes that could have been sent in [0, at_s); before zero the first rate holds."""
        if at_s <= 0:
            return at_s * self._rates[0]
        periods, rest_s = divmod(at_s, self._period_s)
        cell = min(int(rest_s / GRID_S), len(self._rates) - 1)
        within = self._cumulative[cell] + (rest_s - cell * GRID_S) * self._rates[cell]
        return periods * self._cumulative[-1] + within

    def time_of(self, num_bytes: float) -> float:
        """Inverse of `bytes_until`."""
        if num_bytes <= 0:
            return num_bytes / self._rates[0]
        periods, rest = divmod(num_bytes, self._cumulative[-1])
        cell = min(bisect_right(self._cumulative, rest) - 1, len(self._rates) - 1)
        return periods * self._period_s + cell * GRID_S + (rest - self._cumulative[cell]) / self._rates[cell]


class EmulatedLink:
    """One direction of an emulated link, at its sender.  Raises InvalidConfig for a trace that cannot be read."""

    def __init__(self, rate: RateConfig, delay_s: float, jitter_s: float, link: str, direction: str) -> None:
        check_rate(rate)
        self._config, self._link, self._direction = rate, link, direction
        self.delay_s = delay_s
        self._jitter_s = jitter_s
        self.restart(seed=0, epoch_s=0.0)

    def restart(self, seed: int, epoch_s: float) -> None:
        """Forget what was queued; follow the trace of `seed` with its time zero at `epoch_s`."""
        self._seed, self._epoch_s = seed, epoch_s
        self._trace: RateTrace | None = None
        self._free_at_s = -math.inf

    @property
    def trace(self) -> RateTrace:
        """What it follows; drawn when it is first needed, for links are restarted before they are used."""
        if self._trace is None:
            self._trace = RateTrace(draw_trace(self._config, self._seed, self._link, self._direction))
        return self._trace

    def transfer(self, request_id: int, num_bytes: int, at_s: float) -> Transfer:
        """Queue a payload now: behind earlier ones, at the trace's rate, then delay and jitter."""
        start_s = max(at_s, self._free_at_s) - self._epoch_s
        end_s = self.trace.time_of(self.trace.bytes_until(start_s) + num_bytes)
        self._free_at_s = end_s + self._epoch_s
        within = request_id & ((1 << REQUEST_ID_BITS) - 1)
        jitter_s = self._jitter_s * one_jitter_fraction(self._seed, self._link, self._direction, within) if self._jitter_s else 0.0
        return Transfer(sending_s=end_s - start_s, arrives_at_s=self._free_at_s + self.delay_s + jitter_s)

    def control_arrives_at_s(self, at_s: float) -> float:
        """When a small control message sent now lands."""
        return at_s + self.delay_s


class LinkEstimator:
    """A link's rate and delay as its sender can know them.

    The delay is half the smallest recent ping time.  The rate is that of the last acknowledged payload:
    an emulated link tells its time on the air (as a modem does); on a real one it is the time from when the
    link was free for it until the acknowledgement, less the delay there and back.
    """

    UNKNOWN_RATE_BYTES_PER_S = 1e6
    """Before any measurement: 8 Mbit/s, about the median LTE uplink of public measurements."""
    DELAY_MEMORY = 0.05
    """How fast the smallest ping time creeps up towards newer ones."""
    SHORTEST_S = 1e-5
    """Below this a transfer's time is clock noise."""

    def __init__(self) -> None:
        self.rate_bytes_per_s = self.UNKNOWN_RATE_BYTES_PER_S
        self.delay_s = 0.0
        self.measured_at_s: float | None = None
        self._sent: dict[int, tuple[float, int, float | None]] = {}
        self._busy_until_s = -math.inf
        self._pinged = False

    def on_sent(self, transfer_id: int, num_bytes: int, at_s: float, sending_s: float | None) -> None:
        """A payload was given to the link; `sending_s` when the link tells it."""
        self._sent[transfer_id] = (at_s, num_bytes, sending_s)

    def on_ack(self, transfer_id: int, at_s: float) -> None:
        """That payload has arrived whole."""
        entry = self._sent.pop(transfer_id, None)
        if entry is None:
            return
        sent_at_s, num_bytes, sending_s = entry
        if sending_s is None:
            arrived_at_s = at_s - 2 * self.delay_s  # there and back
            sending_s = arrived_at_s - max(sent_at_s, self._busy_until_s)
            self._busy_until_s = max(arrived_at_s, self._busy_until_s)
        self.rate_bytes_per_s = num_bytes / max(sending_s, self.SHORTEST_S)
        self.measured_at_s = at_s

    def forget(self, transfer_id: int) -> None:
        """That payload will not be acknowledged."""
        self._sent.pop(transfer_id, None)

    def on_pong(self, round_trip_s: float) -> None:
        """A ping came back."""
        half_s = max(round_trip_s, 0.0) / 2
        if not self._pinged or half_s < self.delay_s:
            self.delay_s = half_s
            self._pinged = True
        else:
            self.delay_s += self.DELAY_MEMORY * (half_s - self.delay_s)

    def age_s(self, at_s: float) -> float:
        """Seconds since the rate was measured; a large age when it never was."""
        return at_s - self.measured_at_s if self.measured_at_s is not None else 1e3
