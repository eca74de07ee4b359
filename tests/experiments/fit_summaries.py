"""KPIs of training jobs that never ran."""

from __future__ import annotations

from typing import Any

import msgspec

from experiments.fit_summary import FitSummary

_SUMMARY = FitSummary(
    name="fit",
    architecture="federated",
    aggregator="fedavg",
    compressor="identity",
    tau="fixed 10",
    num_clients=2,
    rounds=3,
    seconds=10.0,
    accuracy=0.8,
    best_accuracy=0.8,
    loss=0.5,
    reached=None,
    compute_s=6.0,
    transfer_s=3.0,
    waiting_s=1.0,
    uplink_up_bytes=100,
    uplink_down_bytes=100,
    wan_up_bytes=50,
    wan_down_bytes=50,
    device_joules=20.0,
    raw_bytes=0,
    epsilon=None,
    missing=0,
    refused=0,
)


def make_summary(**changes: Any) -> FitSummary:
    """Two clients that exchanged a little, with some KPIs changed."""
    return msgspec.structs.replace(_SUMMARY, **changes)
