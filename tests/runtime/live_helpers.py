"""Waiting for live nodes: for a condition with a deadline, never for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from runtime.session import Session

POLL_S = 0.01


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Poll a condition with a deadline."""
    until_s, gate = time.perf_counter() + timeout_s, threading.Event()
    while not condition():
        assert time.perf_counter() < until_s, f"{what} did not happen within {timeout_s} s"
        gate.wait(POLL_S)


def wait_for_all_tiers(device: Session) -> None:
    """A device knows the edge and the cloud once their first reports have come."""
    wait_until(lambda: len(device.status().telemetry) == 3, "all three tiers to know each other")
