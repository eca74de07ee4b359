"""What is claimed of higher levels, held against the figures: borne out, or where it breaks and by how much.

Source of the claims: Zhou et al., Proceedings of the IEEE 107(8), 2019, after the six-level rating: with a higher level less data is
offloaded, over a shorter path; therefore transmission takes less time, privacy grows and the WAN costs less; the price is more time and
energy spent on computing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from experiments.level_measures import LevelSummary, Measures
from experiments.levels import LEVELS, goes_back

COUNTED = frozenset(("offloaded_bytes", "num_links", "wan_bytes", "exposed"))
COUNT_TOLERANCE = 0.01
"""Of counts: headers differ by some bytes."""

Part = Literal["training", "inference"]
PARTS: tuple[Part, ...] = ("training", "inference")
TIME_TOLERANCE: dict[Part, float] = {"training": 0.15, "inference": 0.05}
"""Of times and energies: smaller changes, as a share of the larger figure, count as none.  A choice: jobs of equal work differed by up to
13 % on a busy host, medians over a hundred requests that took turns by less than 3 %."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One claim: what changes which way with the level."""

    quantity: str
    """A field of `Measures`."""
    words: str
    rises: bool


CLAIMS = (
    Claim(quantity="offloaded_bytes", words="the amount offloaded falls", rises=False),
    Claim(quantity="num_links", words="the path of what is offloaded shortens", rises=False),
    Claim(quantity="transfer_s", words="transfer latency falls", rises=False),
    Claim(quantity="wan_bytes", words="WAN cost falls", rises=False),
    Claim(quantity="exposed", words="privacy rises: what is exposed falls", rises=False),
    Claim(quantity="compute_s", words="compute latency rises", rises=True),
    Claim(quantity="device_joules", words="device energy rises", rises=True),
)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """From one level to the next."""

    before: str
    """Keys of the levels."""
    after: str
    values: tuple[float, float]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures say to a claim, in training or at inference."""

    claim: str
    quantity: str
    part: Part
    verdict: Literal["borne out", "only from end to end", "not borne out"]
    """`only from end to end`: the last level against the first bears it out, but not every step between."""
    ends: Step
    breaches: tuple[Step, ...]
    """Steps that go the other way by more than the tolerance."""
    only_returns: bool
    """Whether every breach is where the scale itself goes back: level 4 infers where level 1 does."""
    sentence: str


def find_all(summaries: Sequence[LevelSummary]) -> tuple[Finding, ...]:
    """Every claim held against the levels, lowest first: for training, then for inference."""
    keys = [summary.key for summary in summaries]

    def values(part: Part, claim: Claim) -> list[float]:
        measures: list[Measures] = [getattr(summary, part) for summary in summaries]
        return [float(getattr(one, claim.quantity)) for one in measures]

    return tuple(find(claim, part, keys, values(part, claim)) for claim in CLAIMS for part in PARTS)


def find(claim: Claim, part: Part, keys: Sequence[str], values: Sequence[float]) -> Finding:
    """Hold a claim against the values of at least two levels, lowest first."""
    steps = [Step(before=keys[index], after=keys[index + 1], values=(values[index], values[index + 1])) for index in range(len(values) - 1)]
    ends = Step(before=keys[0], after=keys[-1], values=(values[0], values[-1]))
    wanted = 1 if claim.rises else -1
    share = tolerance(part, claim.quantity)
    breaches = tuple(step for step in steps if direction(step, share) == -wanted)
    holds = direction(ends, share) == wanted
    verdict: Literal["borne out", "only from end to end", "not borne out"] = (
        "not borne out" if not holds else "only from end to end" if breaches else "borne out"
    )
    only_returns = all(part == "inference" and goes_back(step.before, step.after) for step in breaches)
    shown = SHOWN[part, claim.quantity]
    sentence = f"{verdict}: {shown(values[0])} at {_title(keys[0])}, {shown(values[-1])} at {_title(keys[-1])}"
    if breaches:
        verb = "falls" if claim.rises else "rises"
        sentence += f"; it {verb} " + ", ".join(_words(step, shown) for step in breaches)
    return Finding(
        claim=claim.words,
        quantity=claim.quantity,
        part=part,
        verdict=verdict,
        ends=ends,
        breaches=breaches,
        only_returns=only_returns,
        sentence=sentence,
    )


def tolerance(part: Part, quantity: str) -> float:
    """Which share of a figure is no change."""
    return COUNT_TOLERANCE if quantity in COUNTED else TIME_TOLERANCE[part]


def direction(step: Step, share: float) -> int:
    """1 rises, -1 falls, 0 stays within that share of the larger value."""
    before, after = step.values
    if abs(after - before) <= share * max(abs(before), abs(after)):
        return 0
    return 1 if after > before else -1


def holds_but_for_returns(finding: Finding) -> bool:
    """Whether the claim is borne out wherever the scale itself goes up."""
    return finding.verdict != "not borne out" and finding.only_returns


def overall(findings: Sequence[Finding]) -> str:
    """Two sentences: how many claims are borne out, in which part."""
    counts = {part: sum(one.verdict == "borne out" for one in findings if one.part == part) for part in PARTS}
    upwards = sum(holds_but_for_returns(one) for one in findings if one.part == "inference")
    return (
        f"Of {len(CLAIMS)} claims about higher levels the measurement bears out {counts['training']} in training and {counts['inference']} "
        f"at inference, level by level.  Leaving out the step from level 3 to 4, where inference returns to level 1's place, "
        f"{upwards} hold "
        "at inference."
    )


def _words(step: Step, shown: Callable[[float], str]) -> str:
    before, after = step.values
    factor = f", x {after / before:.2g}" if before > 0 and after > 0 else ""
    return f"from {_title(step.before)} to {_title(step.after)} ({shown(before)} to {shown(after)}{factor})"


def _title(key: str) -> str:
    return next((level.title for level in LEVELS if level.key == key), key)


def show_bytes(value: float) -> str:
    """`0`, `412 B`, `4.1 kB`, `3.2 MB`."""
    if value < 1:
        return "0"
    if value < 1e3:
        return f"{value:.0f} B"
    return f"{value / 1e3:.1f} kB" if value < 1e6 else f"{value / 1e6:.2f} MB"


def show_seconds(value: float) -> str:
    """`0`, `6.3 ms`, `21.4 s`."""
    return "0" if value <= 0 else f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.1f} s"


def show_joules(value: float) -> str:
    """`0`, `31.2 mJ`, `212 J`."""
    return "0" if value <= 0 else f"{value * 1e3:.1f} mJ" if value < 1 else f"{value:.1f} J"


def show_links(value: float) -> str:
    """`2 links`."""
    return f"{value:.0f} link{'' if value == 1 else 's'}"


def show_leakage(value: float) -> str:
    """`0.87`."""
    return f"{value:.2f}"


_BOTH: dict[str, Callable[[float], str]] = {
    "offloaded_bytes": show_bytes,
    "num_links": show_links,
    "transfer_s": show_seconds,
    "wan_bytes": show_bytes,
    "compute_s": show_seconds,
    "device_joules": show_joules,
}
SHOWN: dict[tuple[Part, str], Callable[[float], str]] = {
    **{(part, quantity): shown for part in PARTS for quantity, shown in _BOTH.items()},
    ("training", "exposed"): show_bytes,
    ("inference", "exposed"): show_leakage,
}
"""How a part's quantity is written."""
