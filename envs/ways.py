"""A decision's ways: where a request under it may end, how often it does, and what that takes.

A decision without early exit has one way.  One that may leave early has a way per exit up to its own: under cuts
(p, q), a request that is confident at an exit after n stages runs and sends only what lies before stage n,

    device [0, min(p, n))    uplink if n > p    edge [p, min(q, n))    wan if n > q    cloud [q, n)

and the head of every exit that it passes.  A way is therefore predicted, simulated and charged like a decision.

The exit is the one measured for each example without a codec: what a lossy codec does to confidence is not modelled.
Where both links are crossed in a lossy codec, an answer counts as right if it is with either of them alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from runtime.messages import TIERS, Decision
from runtime.profile import CodecProfile, Profile, VariantProfile, read_bits


class Way(NamedTuple):
    """One way of a decision, in numbers."""

    exit: int
    share: float
    """Of the split's examples."""
    device_s: float
    """Compute, heads, encoding and decoding on the device."""
    edge_s: float
    cloud_s: float
    uplink_bytes: float
    """On the wire away from the device, header included; 0 when nothing leaves it."""
    wan_bytes: float
    expected_error: float
    """Of the examples that go this way."""
    leakage: float
    memory_bytes: float


FACTS = Way._fields[2:]
"""What costs are made of."""


def ways_of(profile: Profile, decision: Decision, split: str) -> list[Way]:
    """The ways of a decision, by rising exit; shares sum to 1 (a way that no example of the split goes has share 0)."""
    if not decision.early_exit:
        return [_way(profile, decision, decision.exit, split, 1.0, None)]
    taken = np.minimum(profile.exits_taken(decision.variant, split), decision.exit)
    ways = []
    for exit in range(decision.exit + 1):
        goes = taken == exit
        ways.append(_way(profile, decision, exit, split, float(goes.mean()), goes if goes.any() else None))
    return ways


def right_answers(profile: Profile, decision: Decision, exit: int, split: str) -> np.ndarray:
    """bool [examples]: which of the split a request gets right that leaves at `exit` under this decision."""
    variant, end = profile.variants[decision.variant], profile.exit_ends[exit]
    right = read_bits(variant.correct[split][exit])
    codec = variant.codecs.get(decision.codec)
    if codec is not None and split in codec.correct:
        for cut in sorted({cut for cut in decision.cuts if cut < end}):
            right = right & read_bits(codec.correct[split][cut][exit])
    return right


def codec_seconds(profile: Profile, decision: Decision, exit: int) -> tuple[float, float, float]:
    """Of a way's seconds on device, edge and cloud, those of encoding and decoding."""
    end = profile.exit_ends[exit]
    p, q = (min(cut, end) for cut in decision.cuts)
    return _codec_s(profile.variants[decision.variant].codecs.get(decision.codec), p, q, end)


def _way(profile: Profile, decision: Decision, exit: int, split: str, share: float, goes: np.ndarray | None) -> Way:
    variant, end = profile.variants[decision.variant], profile.exit_ends[exit]
    p, q = (min(cut, end) for cut in decision.cuts)
    bounds = (0, p, q, end)
    seconds = [sum(variant.stage_s[tier][bounds[i] : bounds[i + 1]], 0.0) for i, tier in enumerate(TIERS)]
    for head in _heads(profile, decision, exit):
        tier = _tier_of_head(bounds, profile.exit_ends[head])
        seconds[tier] += variant.head_s[TIERS[tier]][head]
    for tier, codec_s in enumerate(codec_seconds(profile, decision, exit)):
        seconds[tier] += codec_s
    used = [bounds[i] < bounds[i + 1] or seconds[i] > 0 for i in range(len(TIERS))]  # encoding alone counts too
    return Way(
        exit,
        share,
        seconds[0],
        seconds[1],
        seconds[2],
        _bytes(variant, decision.codec, p) if p < end else 0.0,
        _bytes(variant, decision.codec, q) if q < end else 0.0,
        _error(profile, decision, exit, split, goes),
        variant.leakage[p] if p < end else 0.0,
        float(sum(profile.memory_bytes.get(tier, 0) for tier, uses in zip(TIERS, used, strict=True) if uses)),
    )


def _heads(profile: Profile, decision: Decision, exit: int) -> list[int]:
    """Exits whose heads are run on the way to `exit`, its own the last."""
    return list(range(exit + 1)) if decision.early_exit else [exit]


def _tier_of_head(bounds: tuple[int, int, int, int], end: int) -> int:
    """Index of the tier that runs stage `end - 1`, and so the head behind it."""
    return next(index for index in range(len(TIERS)) if bounds[index] < end <= bounds[index + 1])


def _codec_s(codec: CodecProfile | None, p: int, q: int, end: int) -> tuple[float, float, float]:
    """Seconds of encoding and decoding on each tier.  An edge that computes nothing passes on what it got as it is."""
    if codec is None or p == end:
        return 0.0, 0.0, 0.0
    device_s = codec.encode_s["device"][p]
    edge_s = codec.decode_s["edge"][p] if p < q else 0.0
    if q == end:
        return device_s, edge_s, 0.0
    return device_s, edge_s + (codec.encode_s["edge"][q] if p < q else 0.0), codec.decode_s["cloud"][q]


def _bytes(variant: VariantProfile, codec: str, cut: int) -> float:
    return float(variant.codecs[codec].cut_bytes[cut] if codec in variant.codecs else variant.cut_bytes[cut])


def _error(profile: Profile, decision: Decision, exit: int, split: str, goes: np.ndarray | None) -> float:
    if not decision.early_exit and decision.codec == "identity":
        return 1.0 - profile.variants[decision.variant].accuracy[split][exit]
    right = right_answers(profile, decision, exit, split)
    return 1.0 - float(right[goes].mean() if goes is not None else right.mean())
