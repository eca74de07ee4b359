"""Whom `drlctl infer` gives a picture to."""

from __future__ import annotations

import pytest

from drlctl.asking import asked_model
from runtime.errors import InvalidInput, UnknownModel
from runtime.messages import StatusReport, Tier

ADDRESS = "tcp://127.0.0.1:5555"


def report(tier: Tier, *models: str) -> StatusReport:
    """What a node at the address says of itself."""
    return StatusReport(
        request_id=1, name=f"{tier}-1", tier=tier, pid=1, emulated=False, telemetry=(), links=(), counters={}, models=models
    )


def test_the_first_model_of_a_device_is_asked() -> None:
    """It is the one that the device's times are relative to."""
    assert asked_model(report("device", "one", "two"), ADDRESS) == "one"


def test_who_cannot_answer_is_named() -> None:
    """A device without models, which is no fault of this program, and a node that takes no pictures."""
    with pytest.raises(UnknownModel, match=f"the device at {ADDRESS} serves no model"):
        asked_model(report("device"), ADDRESS)
    with pytest.raises(InvalidInput, match="is 'edge-1', a node of the edge: pictures are given to a device"):
        asked_model(report("edge", "one"), ADDRESS)
