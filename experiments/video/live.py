"""Looks at frames through running nodes: cut out and made smaller here, on the device's side, then asked for.

One look at a time: the next frame is sent when the last one is answered, so latencies hold no waiting for each other.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from experiments.video.geometry import Region, cut_out, place
from experiments.video.knobs import Look, RegionName
from experiments.video.measure import Seen
from runtime.energy import ComputePower
from runtime.errors import SystemFailure
from runtime.messages import TIERS, Decision, Tier
from runtime.models.manifest import Manifest, load_manifest
from runtime.session import Session

log = logging.getLogger(__name__)

DEADLINE_S = 10.0
READY_S = 10.0
PAUSE_S = 0.02
PREPARE_REPEATS = 15
"""Timings of preparing a look; the median counts."""


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """Networks that know one camera."""

    grid: tuple[int, int]
    """(rows, columns) of the whole frame."""
    regions: dict[RegionName, Region]
    model_dirs: dict[Look, Path]
    """The golden one first: emulated tiers are paced by it."""


Decide = Callable[[str], Decision | None]
"""Model -> decision; None leaves it to whoever decides on the device."""


class LiveEyes:
    """Takes looks, each a request of its own; `eyes(look, frame)` is one.

    `prepare_slowdown`: how many times longer the device takes to prepare a picture than this host (emulated tiers).
    """

    def __init__(
        self,
        session: Session,
        frames: np.ndarray,
        application: Application,
        decide: Decide,
        *,
        prepare_slowdown: float = 1.0,
        compute_power: ComputePower | None = None,
    ) -> None:
        self._session, self._regions, self._grid, self._decide = session, application.regions, application.grid, decide
        self._frames = [Image.fromarray(frame) for frame in frames]
        self._slowdown, self._power = prepare_slowdown, compute_power or ComputePower()
        self._prepared_s: dict[Look, float] = {}

    def __call__(self, look: Look, frame: int) -> Seen:
        """One look at the frame of that number.  A request that fails gives no answer and costs what it cost.  Raises PeerLost."""
        region = self._regions[look.region]
        prepare_s = self._prepare_s(look, region)
        picture = cut_out(self._frames[frame], region, look.scale)
        asked_s = time.perf_counter()
        outcome, scores = self._session.infer_output(look.name, picture, DEADLINE_S, self._decide(look.name))
        if scores is None:
            log.warning("%s at frame %d: %s: %s", look.name, frame, outcome.status, outcome.message)
        return Seen(
            occupied=None if scores is None else place(_occupied(scores, region), region, self._grid),
            energy_joules=outcome.energy_joules + self._power.above_idle_joules(prepare_s),
            uplink_bytes=outcome.link_bytes[0],
            compute_s=prepare_s + sum(outcome.breakdown.compute_s),
            latency_s=prepare_s + time.perf_counter() - asked_s,
        )

    def _prepare_s(self, look: Look, region: Region) -> float:
        """What the device takes to prepare a look: a reference, measured once, and not the run at hand with the host's noise."""
        if look not in self._prepared_s:
            times_s = []
            for _ in range(PREPARE_REPEATS):
                start_s = time.perf_counter()
                cut_out(self._frames[0], region, look.scale)
                times_s.append(time.perf_counter() - start_s)
            self._prepared_s[look] = statistics.median(times_s) * self._slowdown
        return self._prepared_s[look]


def _occupied(scores: np.ndarray, region: Region) -> np.ndarray:
    """Logits of free and occupied, [1, 2, rows, columns] -> bool [rows, columns]; the device has checked how many there are."""
    free, occupied = scores.reshape(2, region.rows, region.columns)
    return np.asarray(occupied > free)


def at_tier(model_dirs: Mapping[Look, Path], tier: Tier) -> Decide:
    """Every network runs whole on one tier."""
    decisions = {look.name: _at_tier(load_manifest(folder), tier) for look, folder in model_dirs.items()}
    return decisions.__getitem__


def await_tiers(session: Session) -> None:
    """Return once the device hears from all tiers.  Raises SystemFailure when that takes more than READY_S."""
    until_s = time.perf_counter() + READY_S
    while len(session.status().telemetry) < len(TIERS):
        if time.perf_counter() > until_s:
            raise SystemFailure(f"the device did not hear from {len(TIERS)} tiers within {READY_S:g} s")
        session.receive(PAUSE_S)


def _at_tier(manifest: Manifest, tier: Tier) -> Decision:
    end = manifest.num_stages
    cuts = {"device": (end, end), "edge": (0, end), "cloud": (0, 0)}[tier]
    return Decision(model=manifest.model, variant=next(iter(manifest.variants)), cuts=cuts, exit=0)
