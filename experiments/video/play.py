"""The players: each reports every frame of the same stream, and pays for every look it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from experiments.video.agreement import hold_last
from experiments.video.knobs import GOLDEN, Look, Setting
from experiments.video.measure import Looks, Measured, Seen, measure
from experiments.video.policy import Reprofiling, cheapest, most_promising

See = Callable[[Look, int], Seen]
"""Takes a look at the frame of that number."""


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as one player reported it."""

    name: str
    reports: np.ndarray
    """bool [N, rows, columns]: what was said of each frame."""
    seen: tuple[Seen, ...]
    """Every look that was paid for, those that measure settings included."""
    num_profiling: int
    """How many of them were taken to measure settings."""
    settings: tuple[Setting, ...]
    """The one chosen for each window."""


def survey(looks: Sequence[Look], frames: Sequence[int], see: See) -> Looks:
    """Every look at every frame."""
    return {look: [see(look, frame) for frame in frames] for look in looks}


def play_fixed(name: str, setting: Setting, frames: Sequence[int], see: See, blank: np.ndarray) -> Played:
    """One setting, whatever happens."""
    seen, reports = _follow(setting, frames, see, blank)
    return Played(name=name, reports=np.stack(reports), seen=tuple(seen), num_profiling=0, settings=(setting,))


def play_reprofiled(
    name: str, policy: Reprofiling, learnt: Sequence[Measured], frames: Sequence[int], see: See, blank: np.ndarray
) -> Played:
    """Measured anew on the first frames of each window, which are reported as the golden setting sees them.

    `learnt` is a profile of all settings on earlier frames: where the first candidates come from.
    """
    kept, seen, reports, chosen, num_profiling = most_promising(learnt, policy), list[Seen](), list[np.ndarray](), list[Setting](), 0
    for number, window in enumerate(policy.windows(len(frames))):
        now = [frames[index] for index in window]
        head, tail = now[: policy.calibration], now[policy.calibration :]
        everything = number > 0 and number % policy.full_every == 0
        candidates = tuple(each.setting for each in learnt) if everything else kept
        looks = survey(tuple(dict.fromkeys((GOLDEN.look, *(each.look for each in candidates)))), head, see)
        measured = measure(candidates, looks, reports[-1] if reports else blank)
        kept = most_promising(measured, policy) if everything else kept
        chosen.append(cheapest(measured, policy.target, policy.cost))
        profiling = [each for given in looks.values() for each in given]
        num_profiling += len(profiling)
        reports += hold_last([each.occupied for each in looks[GOLDEN.look]], reports[-1] if reports else blank)
        followed, told = _follow(chosen[-1], tail, see, reports[-1])
        seen += [*profiling, *followed]
        reports += told
    return Played(name=name, reports=np.stack(reports), seen=tuple(seen), num_profiling=num_profiling, settings=tuple(chosen))


def play_oracle(name: str, policy: Reprofiling, settings: Sequence[Setting], looks: Looks, blank: np.ndarray) -> Played:
    """The best choice for each window by what it turns out to be, measured for nothing: a bound, not a policy."""
    seen, reports, chosen = list[Seen](), list[np.ndarray](), list[Setting]()
    for window in policy.windows(len(looks[GOLDEN.look])):
        now = {look: given[window.start : window.stop] for look, given in looks.items()}
        setting = cheapest(measure(settings, now, blank), policy.target, policy.cost)
        followed, told = _follow(setting, range(len(window)), lambda look, index, now=now: now[look][index], blank)  # type: ignore[misc]
        seen, reports, chosen = [*seen, *followed], [*reports, *told], [*chosen, setting]
    return Played(name=name, reports=np.stack(reports), seen=tuple(seen), num_profiling=0, settings=tuple(chosen))


def _follow(setting: Setting, frames: Sequence[int], see: See, before: np.ndarray) -> tuple[list[Seen], list[np.ndarray]]:
    """(looks, reports) of one setting."""
    seen = [see(setting.look, frame) for frame in frames[:: setting.interval]]
    answers = [seen[index // setting.interval].occupied if index % setting.interval == 0 else None for index in range(len(frames))]
    return seen, hold_last(answers, before)
