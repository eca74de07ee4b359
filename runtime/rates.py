"""How fast a link is over time: one realisation of a rate process per (config, seed).

Pure functions.  The emulated link and the simulator draw the same realisation from here,
so both worlds see the same link.  A trace is piecewise constant on a grid of `GRID_S`;
after its end it starts again.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from runtime.errors import InvalidConfig

GRID_S = 0.1
"""Step of a rate trace."""
TRACE_S = 120.0
"""Length of a drawn trace before it repeats."""
FLOOR_BYTES_PER_S = 1.0
"""An outage is this slow, so that a transfer's end stays defined."""

_LINK_SALT = {"uplink": 1, "wan": 2, "neighbour": 3}
_DIRECTION_SALT = {"up": 1, "down": 2}


class ConstantRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="constant"):
    """The same rate all the time."""

    bytes_per_s: float = 12.5e6
    """12.5e6 is 100 Mbit/s."""

    def __post_init__(self) -> None:
        _positive("bytes_per_s", self.bytes_per_s)

    def describe(self) -> str:
        """For people."""
        return f"constant {self.bytes_per_s * 8e-6:.3g} Mbit/s"


class CellularRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="cellular"):
    """A rate that varies like a 4G uplink: log-normal around a median with slow memory, and sudden fades.

    log(rate / median) is a first-order autoregressive process with stationary deviation `sigma` and
    correlation time `memory_s`; fades multiply the rate by `fade_factor` and begin and end like a
    two-state Markov chain.  A model, not a measurement; `trace` replays measurements.
    """

    median_bytes_per_s: float
    sigma: float = 0.5
    memory_s: float = 3.0
    fade_every_s: float = 15.0
    """Mean time between fades."""
    fade_s: float = 1.0
    """Mean length of a fade."""
    fade_factor: float = 0.2

    def __post_init__(self) -> None:
        for name in ("median_bytes_per_s", "memory_s", "fade_every_s", "fade_s"):
            _positive(name, getattr(self, name))
        if not 0 <= self.sigma <= 3:
            raise InvalidConfig(f"sigma must be in [0, 3], got {self.sigma}")
        if not 0 < self.fade_factor <= 1:
            raise InvalidConfig(f"fade_factor must be in (0, 1], got {self.fade_factor}")

    def describe(self) -> str:
        """For people."""
        return f"cellular, median {self.median_bytes_per_s * 8e-6:.3g} Mbit/s, log-deviation {self.sigma:g}, fades"


class TraceRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="trace"):
    """Replay of measured traces: a JSON-lines file (may be .gz) with `t` in seconds and `mbps` in Mbit/s per line.

    The seed picks one of the lines that match, and where to start in it.
    """

    path: str
    tech: str = ""
    """Only lines with this `tech`; empty takes all."""
    direction: str = ""
    """Only lines with this `direction`; empty takes all."""
    scale: float = 1.0

    def __post_init__(self) -> None:
        _positive("scale", self.scale)

    def describe(self) -> str:
        """For people."""
        return f"replay of {Path(self.path).name}" + (f" ({self.tech} {self.direction})" if self.tech else "")


RateConfig = ConstantRate | CellularRate | TraceRate

_UINT64 = 0xFFFFFFFFFFFFFFFF


def check_rate(config: RateConfig) -> None:
    """Raise InvalidConfig unless traces can be drawn of it: what it replays is read now, and kept."""
    if isinstance(config, TraceRate):
        _read_traces(config.path, config.tech, config.direction)


def draw_trace(config: RateConfig, seed: int, link: str, direction: str) -> np.ndarray:
    """One realisation: float64 [TRACE_S / GRID_S], bytes per second on a grid of GRID_S.

    The same arguments give the same trace in every process.
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, _link_salt(link), _DIRECTION_SALT[direction]])
    num = round(TRACE_S / GRID_S)
    match config:
        case ConstantRate():
            return np.full(num, config.bytes_per_s)
        case CellularRate():
            rates = _cellular(config, rng, num)
        case TraceRate():
            rates = _replay(config, rng, num)
    floored: np.ndarray = np.maximum(rates, FLOOR_BYTES_PER_S)
    return floored


def _link_salt(link: str) -> int:
    """`uplink` and `wan` of the first node of a tier; `uplink:device-3` is another's, with rates and jitter of its own."""
    kind, _, owner = link.partition(":")
    return _LINK_SALT[kind] + (zlib.crc32(owner.encode()) << 8 if owner else 0)


def jitter_fraction(seed: int, link: str, direction: str, request_id: int | np.ndarray) -> np.ndarray:
    """Uniform [0, 1) per message, a hash of (seed, link, direction, request): the same for every policy and system.

    splitmix64 finaliser.  Source: Steele, Lea, Flood, OOPSLA 2014, section 5 (constants of the reference code).
    """
    z = np.asarray(request_id, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = z + np.uint64(_jitter_offset(seed, link, direction))
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def one_jitter_fraction(seed: int, link: str, direction: str, request_id: int) -> float:
    """The same of one message, request ids >= 0, without numpy: it is asked for each payload."""
    z = request_id + _jitter_offset(seed, link, direction)
    z = (z * 0x9E3779B97F4A7C15) & _UINT64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _UINT64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _UINT64
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


@lru_cache(maxsize=256)
def _jitter_offset(seed: int, link: str, direction: str) -> int:
    salt = (_link_salt(link) << 8) | _DIRECTION_SALT[direction]
    return (seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) & _UINT64


def _cellular(config: CellularRate, rng: np.random.Generator, num: int) -> np.ndarray:
    decay = math.exp(-GRID_S / config.memory_s)
    noise = rng.standard_normal(num) * math.sqrt(1 - decay**2)
    log_rate = list[float]()
    level = rng.standard_normal()
    for shock in noise.tolist():
        level = decay * level + shock
        log_rate.append(level)
    fading = list[bool]()
    state, leave = False, {False: GRID_S / config.fade_every_s, True: GRID_S / config.fade_s}
    for chance in rng.random(num).tolist():
        state = state != (chance < leave[state])
        fading.append(state)
    rates: np.ndarray = config.median_bytes_per_s * np.exp(config.sigma * np.array(log_rate)) * np.where(fading, config.fade_factor, 1.0)
    return rates


def _replay(config: TraceRate, rng: np.random.Generator, num: int) -> np.ndarray:
    traces = _read_traces(config.path, config.tech, config.direction)
    times_s, bytes_per_s = traces[int(rng.integers(len(traces)))]
    start_s = rng.random() * times_s[-1]
    grid_s = (start_s + np.arange(num) * GRID_S) % times_s[-1]
    rates: np.ndarray = bytes_per_s[np.searchsorted(times_s, grid_s, side="right") - 1] * config.scale
    return rates


@lru_cache(maxsize=8)
def _read_traces(path: str, tech: str, direction: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    opener = gzip.open if path.endswith(".gz") else open
    traces = []
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if (tech and entry.get("tech") != tech) or (direction and entry.get("direction") != direction):
                    continue
                times_s = np.asarray(entry["t"], dtype=np.float64)
                rates = np.asarray(entry["mbps"], dtype=np.float64) * 1e6 / 8
                if len(times_s) >= 2 and times_s[-1] > times_s[0] and len(times_s) == len(rates):
                    traces.append((times_s - times_s[0], rates))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InvalidConfig(f"rate trace {path}: {exc}; expected JSON lines with `t` (s) and `mbps`") from exc
    if not traces:
        raise InvalidConfig(f"rate trace {path}: no line with tech={tech!r} and direction={direction!r}")
    return tuple(traces)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InvalidConfig(f"{name} must be finite and > 0, got {value}")
