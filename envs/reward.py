"""What a request costs: a sum of named terms in SI units, weighted by the scenario's objective.

Reward is minus cost.  Live and simulated systems both pay with these functions.
"""

from __future__ import annotations

import math

import msgspec

from runtime.messages import Breakdown, Outcome
from runtime.topology import require


class Objective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights: what a second, a miss, a wrong answer, a joule, a byte and a leak are worth."""

    latency_per_s: float = 4.0
    miss: float = 1.0
    """A request that did not get its answer by its deadline, for whatever reason."""
    error: float = 2.0
    """A wrong answer; no answer is wrong too."""
    energy_per_joule: float = 0.2
    uplink_per_byte: float = 0.0
    leakage: float = 0.0
    """Raw input leaving the device; features pay their measured share."""
    memory_per_byte: float = 0.0
    """Peak memory of the tiers that the request used."""
    loss_drop: float = 0.0
    """What it is worth that the loss of the training job beside the requests falls by one."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            require(math.isfinite(value) and value >= 0, f"objective.{field} must be finite and >= 0, got {value}")


TERMS = ("latency", "miss", "error", "energy", "uplink", "leakage", "memory")
"""Of a request, in the order of the objective's first weights."""
ROUNDING_S = 1e-9
"""A tier that was busy for less was not: that is what is left when durations are taken apart."""
TRAINING_TERM = "training"
"""Of the reward, where a job trains beside the requests: the worth of what its loss fell by."""


def cost_terms(objective: Objective, outcome: Outcome) -> dict[str, float]:
    """Cost of one outcome by term.  `correct=None` (no label) pays no error unless the request failed."""
    failed = outcome.status != "ok"
    wrong = 1.0 if failed or outcome.correct is False else 0.0
    used_bytes = used_memory_bytes(outcome.memory_bytes, outcome.breakdown) if outcome.decision is not None else 0
    return {
        "latency": objective.latency_per_s * outcome.latency_s,
        "miss": objective.miss if failed else 0.0,
        "error": objective.error * wrong,
        "energy": objective.energy_per_joule * outcome.energy_joules,
        "uplink": objective.uplink_per_byte * outcome.link_bytes[0],
        "leakage": objective.leakage * outcome.leakage,
        "memory": objective.memory_per_byte * used_bytes,
    }


def used_memory_bytes(memory_bytes: tuple[int, int, int], breakdown: Breakdown) -> int:
    """Memory of the tiers that did anything for the request: computed, encoded or decoded."""
    seconds = zip(breakdown.compute_s, breakdown.codec_s, strict=True)
    return sum(memory for memory, (compute_s, codec_s) in zip(memory_bytes, seconds, strict=True) if compute_s + codec_s > ROUNDING_S)


def cost(objective: Objective, outcome: Outcome) -> float:
    """The terms' sum."""
    return sum(cost_terms(objective, outcome).values())
