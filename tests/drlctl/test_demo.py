"""What a quick demo leaves out, without playing one."""

from __future__ import annotations

import msgspec

from drlctl.demo import quickened
from envs.scenario import load_scenario


def test_a_quick_demo_is_shorter_and_nothing_else() -> None:
    """One seed, few requests, nothing again; what else the scenario's evaluation says holds."""
    scenario = load_scenario("calm")
    scenario = msgspec.structs.replace(scenario, evaluation=msgspec.structs.replace(scenario.evaluation, keep_awake=False))
    quick = quickened(scenario).evaluation
    assert (quick.seeds, quick.max_repeats) == (scenario.evaluation.seeds[:1], 0)
    assert quick.num_requests < scenario.evaluation.num_requests
    assert quick.keep_awake is False
