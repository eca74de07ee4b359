"""What a level came to: figures of its training and of its inference, with the same names, so that claims can be held against both."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from experiments.fit_summary import FitSummary
from runtime.errors import InvalidInput
from runtime.messages import Outcome


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Of a whole training job, or per request."""

    offloaded_bytes: float
    """Up from the devices; all of them in training, mean per request in inference."""
    num_links: int
    """Path length: how many links in a row what was offloaded crossed."""
    transfer_s: float
    """Training: of the slowest client, over all rounds.  Inference: median over requests, there and back."""
    compute_s: float
    """The same for computing, on all tiers together."""
    device_joules: float
    """Modelled.  Training: all devices.  Inference: mean per request."""
    exposed: float
    """Privacy.  Training: raw bytes that left their owner.  Inference: mean distance correlation of what left with the input."""
    wan_bytes: float
    """Both ways."""
    accuracy: float | None


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a level, as it is kept in records.jsonl."""

    level: str
    request: int
    example: int
    """Index in the model's played test examples."""
    correct: bool
    """An answer that never came is wrong."""
    leakage: float
    """Of what left the device: 0 nothing, 1 the input itself."""
    outcome: Outcome


class LevelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A level in figures."""

    key: str
    name: str
    trained: str
    """How, for people: `hierarchical, root cloud`."""
    placement: str
    """Of its requests: the decision's label without the model."""
    training: Measures
    inference: Measures
    latency_s: float
    """Median over requests that were answered."""
    requests: int
    failed: int
    served_accuracy: float
    """Of the served network on the whole test split; `all on-device`: mean over the devices' own."""
    accuracy_range: tuple[float, float]
    """Least and greatest served accuracy over the devices' networks, where each has its own; else that one twice."""


def training_measures(summary: FitSummary) -> Measures:
    """Of a job's KPIs."""
    return Measures(
        offloaded_bytes=float(summary.uplink_up_bytes),
        num_links=(summary.uplink_up_bytes > 0) + (summary.wan_up_bytes > 0),
        transfer_s=summary.transfer_s,
        compute_s=summary.compute_s,
        device_joules=summary.device_joules,
        exposed=float(summary.raw_bytes),
        wan_bytes=float(summary.wan_up_bytes + summary.wan_down_bytes),
        accuracy=summary.accuracy,
    )


def inference_measures(served: Sequence[Served]) -> Measures:
    """Of a level's requests; times of those that were answered.  Raises InvalidInput when none was."""
    answered = [one.outcome for one in served if one.outcome.status == "ok"]
    if not answered:
        why = served[0].outcome.message or served[0].outcome.status if served else "nothing was asked"
        raise InvalidInput(f"no request was answered: {why}")
    outcomes = [one.outcome for one in served]
    return Measures(
        offloaded_bytes=float(np.mean([outcome.link_bytes[0] for outcome in outcomes])),
        num_links=max(sum(count > 0 for count in outcome.link_bytes) for outcome in outcomes),
        transfer_s=float(np.median([sum(outcome.breakdown.transfer_s) for outcome in answered])),
        compute_s=float(np.median([sum(outcome.breakdown.compute_s) for outcome in answered])),
        device_joules=float(np.mean([outcome.energy_joules for outcome in outcomes])),
        exposed=float(np.mean([one.leakage for one in served])),
        wan_bytes=float(np.mean([outcome.link_bytes[1] + outcome.down_bytes[1] for outcome in outcomes])),
        accuracy=float(np.mean([one.correct for one in served])),
    )
