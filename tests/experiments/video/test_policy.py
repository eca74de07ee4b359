"""Which setting is chosen, by hand; and what the players pay."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.video.agreement import f1
from experiments.video.knobs import GOLDEN, Knobs, Look, Setting
from experiments.video.measure import Cost, Measured, cost_of, measure
from experiments.video.play import play_fixed, play_oracle, play_reprofiled, survey
from experiments.video.policy import Reprofiling, cheapest, most_promising
from tests.experiments.video.scripted import BLANK, Script, cells, seen

LOOKS, SETTINGS = Knobs().looks, Knobs().settings
BUSY = Setting(look=Look(region="busy"))
BUSY_HALVED = Setting(look=Look(region="busy"), interval=2)


def measured(setting: Setting, accuracy: float, joules: float, num_bytes: float = 0.0) -> Measured:
    return Measured(setting=setting, accuracy=accuracy, cost=Cost(energy_joules=joules, uplink_bytes=num_bytes, compute_s=0.0))


def test_the_cheapest_that_holds_is_chosen() -> None:
    """Of three that hold 0.9 the one of least joules, or of least bytes; what is cheaper and does not hold is left out."""
    profile = [measured(GOLDEN, 1.0, 9.0, 9.0), measured(BUSY, 0.95, 4.0, 8.0), measured(SETTINGS[1], 0.9, 5.0, 2.0)]
    profile.append(measured(BUSY_HALVED, 0.89, 1.0, 1.0))
    assert cheapest(profile, 0.9, "energy") == BUSY
    assert cheapest(profile, 0.9, "bytes") == SETTINGS[1]


def test_of_equal_cost_the_more_accurate() -> None:
    """Ties are broken by accuracy."""
    assert cheapest([measured(GOLDEN, 0.95, 1.0), measured(BUSY, 0.97, 1.0)], 0.9, "energy") == BUSY


def test_when_none_holds_it_is_the_golden_one() -> None:
    """Better dear than wrong."""
    assert cheapest([measured(BUSY, 0.89, 1.0)], 0.9, "energy") == GOLDEN
    assert cheapest([], 0.9, "energy") == GOLDEN


def test_those_that_hold_are_kept_first() -> None:
    """By rising cost; then those that do not, by falling accuracy."""
    profile = [measured(SETTINGS[0], 0.95, 3.0), measured(SETTINGS[1], 0.7, 1.0), measured(SETTINGS[2], 0.8, 1.0), measured(BUSY, 0.9, 2.0)]
    assert most_promising(profile, Reprofiling(num_kept=3)) == (BUSY, SETTINGS[0], SETTINGS[2])


def test_settings_are_measured_by_hand() -> None:
    """Each third frame of a car that moves every second: frames 0, 0, 0, 3 of 0, 0, 1, 1 agree in 3 of 4; 2 of 4 looks are paid."""
    looks = {GOLDEN.look: [seen(cells(frame // 2), 4.0) for frame in range(4)]}
    (third,) = measure([Setting(interval=3)], looks, BLANK)
    assert third.accuracy == pytest.approx(3 / 4)
    assert third.cost == Cost(energy_joules=2.0, uplink_bytes=200.0, compute_s=pytest.approx(0.2))


def test_a_failed_look_repeats_the_last_answer_and_is_paid() -> None:
    """A request that fails is data."""
    looks = {GOLDEN.look: [seen(cells(0), 1.0), seen(cells(0), 1.0)], BUSY.look: [seen(cells(0), 1.0), seen(None, 1.0)]}
    (busy,) = measure([BUSY], looks, BLANK)
    assert (busy.accuracy, busy.cost.energy_joules) == (1.0, 1.0)


def learnt_from(script: Script, num_frames: int) -> tuple[Measured, ...]:
    return measure(SETTINGS, survey(LOOKS, range(num_frames), script), BLANK)


def test_the_reprofiling_policy_notices_what_the_fixed_one_does_not() -> None:
    """Learnt on a still car, played on one that stops half way: fixed fails, reprofiling holds what it measures."""
    policy = Reprofiling(target=0.95, window=6, calibration=4)
    learnt = learnt_from(Script([0] * 6), 6)
    moving = [*range(12), *([3] * 12)]
    fixed = cheapest(learnt, policy.target, policy.cost)
    assert fixed == Setting(look=Look(region="busy"), interval=3)
    golden = play_fixed("golden", GOLDEN, range(24), Script(moving), BLANK)
    still = play_fixed("fixed", fixed, range(24), Script(moving), BLANK)
    played = play_reprofiled("reprofiled", policy, learnt, range(24), Script(moving), BLANK)
    assert [setting.interval for setting in played.settings] == [1, 1, 3, 3]
    assert f1(golden.reports, still.reports) < 0.7
    assert f1(golden.reports, played.reports) == 1.0


def test_measuring_is_paid_for() -> None:
    """One window: four golden looks and four of the candidates' one look, then the tail; all are in the bill."""
    policy = Reprofiling(target=0.95, window=6, calibration=4)
    learnt, script = learnt_from(Script([0] * 6), 6), Script([0] * 6)
    played = play_reprofiled("reprofiled", policy, learnt, range(6), script, BLANK)
    kept_looks = dict.fromkeys(setting.look for setting in most_promising(learnt, policy))
    assert list(kept_looks) == [Look(region="busy"), GOLDEN.look]
    assert script.asked == [(look, frame) for look in (GOLDEN.look, Look(region="busy")) for frame in range(4)] + [(Look(region="busy"), 4)]
    assert played.num_profiling == 8
    assert cost_of(played.seen, 6).energy_joules == pytest.approx((4 * 4.0 + 5 * 2.0) / 6)


def test_every_so_many_windows_all_settings_are_measured() -> None:
    """In the first of them by what was learnt, in the third by everything, and what is best then is kept."""
    policy = Reprofiling(target=0.9, window=2, calibration=1, num_kept=1, full_every=2)
    script = Script([0] * 6)
    play_reprofiled("reprofiled", policy, learnt_from(Script([0] * 6), 6), range(6), script, BLANK)
    asked_at = {frame: {look for look, at in script.asked if at == frame} for frame in (0, 2, 4)}
    assert asked_at[4] == set(LOOKS)
    assert len(asked_at[0]) == len(asked_at[2]) == 2


def test_the_oracle_holds_every_window_at_least_cost() -> None:
    """Chosen by hand for a car that moves and then stands."""
    moving = [*range(6), *([1] * 6)]
    policy = Reprofiling(target=0.95, window=6, calibration=4)
    oracle = play_oracle("oracle", policy, SETTINGS, survey(LOOKS, range(12), Script(moving)), BLANK)
    assert oracle.settings == (BUSY, Setting(look=Look(region="busy"), interval=3))
    assert cost_of(oracle.seen, 12).energy_joules == pytest.approx((6 * 2.0 + 2 * 2.0) / 12)
    golden = play_fixed("golden", GOLDEN, range(12), Script(moving), BLANK)
    assert np.array_equal(golden.reports, oracle.reports)


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"target": 1.5}, {"window": 4}, {"calibration": 0}, {"num_kept": 0}])
def test_impossible_policies_are_refused(wrong: dict[str, float]) -> None:
    """A calibration must leave frames to use it on, and a target is a share."""
    with pytest.raises(ValueError, match=r"target|windows"):
        Reprofiling(**wrong)  # type: ignore[arg-type]


def test_knobs_without_the_golden_setting_are_refused() -> None:
    """There would be nothing to measure against."""
    assert Knobs().looks[0] == GOLDEN.look
    assert len(Knobs().settings) == 18
    with pytest.raises(ValueError, match="must be able to say"):
        Knobs(scales=(2, 4))
