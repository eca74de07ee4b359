"""What nodes do for several at once, simulated by their own code: batches, tenants, refusals."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.costs import build_cost_model
from envs.scenario import Scenario
from envs.simulation.events.scene import Scene
from envs.simulation.events.system import EventSystem
from runtime.errors import InvalidProfile
from runtime.inference.batching import BatchingConfig, affine_batch_s
from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.messages import Outcome
from tests.envs.profiles import make_profile
from tests.envs.simulation.events.plays import EDGE_ONLY, SEED, play_alike, steady, with_tier

FRACTION = 0.6
TENANTS = TenancyConfig(tenants=(TenantConfig(name="ours"), TenantConfig(name="others")))


def alone_s() -> float:
    """Edge seconds of one EDGE_ONLY request."""
    model = build_cost_model(make_profile(), steady(1.0), [EDGE_ONLY])
    return float(model.mean("edge_s")[0])


def wide(scenario: Scenario) -> Scenario:
    """The same behind an uplink that nothing waits for."""
    uplink = scenario.topology.wan
    return msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, uplink=uplink, max_in_flight=512))


def median_s(outcomes: list[Outcome]) -> float:
    """Of the latencies."""
    return float(np.median([outcome.latency_s for outcome in outcomes]))


def test_batches_take_what_the_profile_says() -> None:
    """Every row of a batch computes as long as the whole: fixed + n times per row, by hand; and none is larger than it may be."""
    load_per_s = 1.3 / alone_s()
    scenario = with_tier(wide(steady(load_per_s)), "edge", batching=BatchingConfig(max_batch=4, fixed_fraction=FRACTION))
    outcomes = [outcome for outcome in play_alike(scenario, EDGE_ONLY) if outcome.status == "ok"]
    sizes = {outcome.batch[1] for outcome in outcomes}
    assert {1, 2, 3, 4} >= sizes > {1}
    for outcome in outcomes:
        assert outcome.breakdown.compute_s[1] == pytest.approx(affine_batch_s(alone_s(), FRACTION, outcome.batch[1]))


def test_batches_carry_more_than_one_by_one() -> None:
    """Under more load than the edge can do one by one, requests come back sooner."""
    plain = wide(steady(1.3 / alone_s()))
    batching = with_tier(plain, "edge", batching=BatchingConfig(max_batch=8, fixed_fraction=FRACTION))
    assert median_s(play_alike(batching, EDGE_ONLY)) < 0.6 * median_s(play_alike(plain, EDGE_ONLY))


def test_what_batches_take_is_measured_or_said() -> None:
    """A profile that has no batch times, under a scenario that does not give them, is refused; old profiles serve all others."""
    scenario = with_tier(steady(10.0), "edge", batching=BatchingConfig(max_batch=4))
    with pytest.raises(InvalidProfile, match=r"edge\.batching\.fixed_fraction"):
        EventSystem(scenario, make_profile())
    profile = make_profile()
    variants = {name: msgspec.structs.replace(info, batch_fixed_fraction=0.3) for name, info in profile.variants.items()}
    scene = Scene(scenario, msgspec.structs.replace(profile, variants=variants), "validation")
    assert scene.fixed_fractions["edge"] == {profile.model: {"fp32": 0.3, "int8": 0.3}}


def test_a_tenant_is_shielded_from_another_s_flood() -> None:
    """Beside a neighbour who asks for one and a half times what the edge can do, a tenant with a share waits for one job or two."""
    flooded = wide(steady(0.2 / alone_s(), neighbours_per_s=1.5 / alone_s()))
    shared, shielded = play_alike(flooded, EDGE_ONLY), play_alike(with_tier(flooded, "edge", tenancy=TENANTS), EDGE_ONLY)
    assert all(outcome.status == "ok" for outcome in shielded)
    assert median_s(shielded) < 0.25 * median_s(shared)
    assert np.quantile([outcome.breakdown.queue_s[1] for outcome in shielded], 0.9) < 4 * alone_s()


def test_a_tenant_s_bursts_are_served_as_far_as_its_credit_goes() -> None:
    """Beside such a neighbour, at 70 % of its share, it waits the less the more it may catch up on; the scenario says how much."""
    flooded = wide(steady(0.35 / alone_s(), neighbours_per_s=1.5 / alone_s()))
    waits_s = []
    for credit_s in (0.0, 20 * alone_s()):
        tenancy = msgspec.structs.replace(TENANTS, credit_s=credit_s)
        outcomes = play_alike(with_tier(flooded, "edge", tenancy=tenancy), EDGE_ONLY)
        waits_s.append(np.quantile([outcome.breakdown.queue_s[1] for outcome in outcomes], 0.9))
    assert waits_s[1] < 0.5 * waits_s[0]
    assert waits_s[1] < 2 * alone_s()


def test_quotas_refuse_the_rest() -> None:
    """A tenant that may send a fifth of what it sends is refused the rest at once, with `overload`, on whatever tier says so."""
    limited = TenancyConfig(tenants=(TenantConfig(name="ours", rate_requests_per_s=2.0, burst_requests=1.0),))
    outcomes = play_alike(with_tier(wide(steady(10.0)), "edge", tenancy=limited), EDGE_ONLY)
    refused = [outcome for outcome in outcomes if outcome.status == "overload"]
    assert 0.6 < len(refused) / len(outcomes) < 0.95
    assert all("over its rate" in outcome.message for outcome in refused)


def test_admission_refuses_what_would_be_late() -> None:
    """Under overload, requests that expire waiting become requests that are refused early; what is admitted is mostly in time."""
    overloaded = wide(steady(1.6 / alone_s()))
    hasty = msgspec.structs.replace(overloaded.workload, deadline_s=0.2)
    overloaded = msgspec.structs.replace(overloaded, workload=hasty)
    hopeful = play_alike(overloaded, EDGE_ONLY)
    strict = play_alike(with_tier(overloaded, "edge", tenancy=TenancyConfig(admission=True)), EDGE_ONLY)
    early = [outcome for outcome in strict if outcome.status == "deadline" and outcome.latency_s < 0.9 * outcome.deadline_s]
    assert len(early) > 20
    assert sum(outcome.status == "ok" for outcome in strict) >= sum(outcome.status == "ok" for outcome in hopeful)


def test_a_full_queue_refuses() -> None:
    """No more wait than `max_waiting` allows."""
    outcomes = play_alike(with_tier(wide(steady(2.0 / alone_s())), "edge", max_waiting=5), EDGE_ONLY, SEED)
    assert any("5 jobs wait already" in outcome.message for outcome in outcomes)
    waited = [outcome.breakdown.queue_s[1] for outcome in outcomes if outcome.status == "ok"]
    assert max(waited) <= 6 * alone_s() + 1e-9
