"""Who asks when: request arrivals, the pictures they bring, and the neighbours' load on the edge.

Pure functions of (config, seed); the live world plays them in real time and the simulator in virtual time.
"""

from __future__ import annotations

import msgspec
import numpy as np

from envs.inputs import InputsConfig, draw_examples, draw_perturbed
from runtime.messages import MAX_NAME_CHARS, Decision
from runtime.topology import require


class WorkloadConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests of one device: a two-state Markov-modulated Poisson process (calm, burst).

    `burst_rate_per_s` equal to `rate_per_s` makes it plain Poisson.
    """

    num_requests: int = 300
    """Length of an episode."""
    rate_per_s: float = 10.0
    burst_rate_per_s: float = 10.0
    calm_s: float = 3.0
    """Mean length of a calm period."""
    burst_s: float = 1.0
    """Mean length of a burst."""
    deadline_s: float = 0.3
    """Every request's time limit from its arrival."""
    inputs: InputsConfig = InputsConfig()

    def __post_init__(self) -> None:
        require(1 <= self.num_requests <= 100_000, f"num_requests must be in 1..100000, got {self.num_requests}")
        for name in ("rate_per_s", "burst_rate_per_s", "calm_s", "burst_s", "deadline_s"):
            require(getattr(self, name) > 0, f"{name} must be > 0, got {getattr(self, name)}")


class BackgroundConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other users of the edge: real requests sent straight to the edge node, in bursts too."""

    rate_per_s: float = 0.0
    burst_rate_per_s: float = 0.0
    calm_s: float = 2.0
    burst_s: float = 1.0
    variant: str = "fp32"
    exit: int = -1
    """Which exit they run on the edge, all its stages; -1 is the last."""
    tenant: str = ""
    """On whose behalf (runtime/inference/tenancy.py); empty for the edge's first tenant, as the device's own requests are."""

    def __post_init__(self) -> None:
        require(self.rate_per_s >= 0 and self.burst_rate_per_s >= 0, "background rates must be >= 0")
        require(len(self.tenant) <= MAX_NAME_CHARS, f"background tenant must have at most {MAX_NAME_CHARS} characters")
        require(self.calm_s > 0 and self.burst_s > 0, "background calm_s and burst_s must be > 0")


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """One episode's requests."""

    arrival_s: np.ndarray
    """float64 [R], rising, from the episode's start."""
    example: np.ndarray
    """int64 [R], index of the picture in the split."""
    perturbed: np.ndarray
    """bool [R], whether it is sent in a synthetic variation of its own.  The simulator takes it for the picture itself."""


_REQUEST_SALT, _BACKGROUND_SALT = 11, 12


def draw_requests(config: WorkloadConfig, seed: int, num_examples: int) -> Requests:
    """The episode's arrivals and pictures.  The same seed gives the same ones everywhere."""
    rng = np.random.default_rng([seed & 0xFFFFFFFF, _REQUEST_SALT])
    arrival_s = modulated_arrivals(
        rng, config.rate_per_s, config.burst_rate_per_s, config.calm_s, config.burst_s, count=config.num_requests
    )
    return Requests(
        arrival_s=arrival_s,
        example=draw_examples(config.inputs, rng, config.num_requests, num_examples),
        perturbed=draw_perturbed(config.inputs, seed, config.num_requests),
    )


BACKGROUND_ID = 1 << 49
"""This bit tells the neighbours' jobs from the requests of an episode, and from a session's (runtime/session.py)."""


def draw_background(config: BackgroundConfig, seed: int, until_s: float) -> np.ndarray:
    """Arrival times of the neighbours' jobs at the edge, float64 [B], up to `until_s`."""
    if config.rate_per_s <= 0 and config.burst_rate_per_s <= 0:
        return np.empty(0)
    rng = np.random.default_rng([seed & 0xFFFFFFFF, _BACKGROUND_SALT])
    tiny = 1e-9
    return modulated_arrivals(
        rng, max(config.rate_per_s, tiny), max(config.burst_rate_per_s, tiny), config.calm_s, config.burst_s, until_s=until_s
    )


def modulated_arrivals(
    rng: np.random.Generator,
    calm_rate_per_s: float,
    burst_rate_per_s: float,
    calm_s: float,
    burst_s: float,
    *,
    count: int | None = None,
    until_s: float = np.inf,
) -> np.ndarray:
    """Arrivals of a two-state Markov-modulated Poisson process, started calm: `count` of them, or those before `until_s`.

    Exact: each period's length is exponential, its arrivals are Poisson and uniform within it.
    Source: Fischer & Meier-Hellstern, Performance Evaluation 1993, section 1.
    """
    pieces: list[np.ndarray] = []
    total, now_s, bursting = 0, 0.0, False
    while now_s < until_s and (count is None or total < count):
        length_s = rng.exponential(burst_s if bursting else calm_s)
        number = rng.poisson((burst_rate_per_s if bursting else calm_rate_per_s) * length_s)
        pieces.append(now_s + np.sort(rng.random(number)) * length_s)
        total += number
        now_s += length_s
        bursting = not bursting
    arrival_s = np.concatenate(pieces) if pieces else np.empty(0)
    return arrival_s[:count] if count is not None else arrival_s[arrival_s < until_s]


def background_decision(config: BackgroundConfig, model: str, exit_ends: tuple[int, ...]) -> Decision:
    """What a neighbour's job runs: everything on the edge."""
    exit = config.exit % len(exit_ends)
    return Decision(model=model, variant=config.variant, cuts=(0, exit_ends[exit]), exit=exit)
