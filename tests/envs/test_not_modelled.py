"""What the simulator leaves out is said, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from envs.inputs import InputsConfig
from envs.not_modelled import not_modelled, simulated_too, simulator_notice
from envs.scenario import Scenario, Techniques, load_scenario, shipped_scenarios
from envs.workload import BackgroundConfig, WorkloadConfig
from runtime.energy import RadioPower
from runtime.inference.batching import BatchingConfig
from runtime.inference.cache import CacheConfig
from runtime.inference.filter import FilterConfig
from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.messages import Breakdown, Outcome, Reused, Tier
from runtime.topology import TierConfig, Topology

WATCHED = WorkloadConfig(inputs=InputsConfig(stream="camera"))
TWO = TenancyConfig(tenants=(TenantConfig(name="a"), TenantConfig(name="b")))
NEIGHBOURS = BackgroundConfig(rate_per_s=5.0)

CASES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"topology": Topology(edge=TierConfig(cache=CacheConfig(max_distance=4)))}, "edge.cache.max_distance"),
    ({"topology": Topology(device=TierConfig(cache=CacheConfig(any_form=True)))}, "device.cache.any_form"),
    ({"topology": Topology(cloud=TierConfig(cache=CacheConfig()))}, "cloud.cache"),
    ({"topology": Topology(device=TierConfig(filter=FilterConfig(), relevance="m.npz")), "workload": WATCHED}, "device.relevance"),
    ({"topology": Topology(edge=TierConfig(tenancy=TWO))}, "edge.tenancy"),
    ({"topology": Topology(edge=TierConfig(tenancy=TenancyConfig(admission=True)))}, "edge.tenancy"),
    ({"topology": Topology(cloud=TierConfig(batching=BatchingConfig(max_batch=2)))}, "cloud.batching"),
    ({"topology": Topology(device=TierConfig(max_waiting=8))}, "device.max_waiting"),
    ({"topology": Topology(edge=TierConfig(max_waiting=40)), "background": NEIGHBOURS}, "edge.max_waiting"),
    ({"topology": Topology(radio="lte")}, "radio"),
    ({"workload": WorkloadConfig(inputs=InputsConfig(perturbation="noise"))}, "workload.inputs.perturbation"),
    ({"techniques": Techniques(codecs=("identity", "int8"))}, "techniques.codecs"),
)

KNOWN: tuple[dict[str, Any], ...] = (
    {"topology": Topology(device=TierConfig(cache=CacheConfig()), edge=TierConfig(cache=CacheConfig()))},
    {"topology": Topology(device=TierConfig(filter=FilterConfig(threshold=9.0))), "workload": WATCHED},
    {"topology": Topology(device=TierConfig(filter=FilterConfig(), relevance="m.npz"))},  # frames of no stream
    {"topology": Topology(edge=TierConfig(tenancy=TenancyConfig(tenants=(TenantConfig(name="us", weight=2.0),))))},
    {"topology": Topology(edge=TierConfig(max_waiting=40))},
    {"topology": Topology(edge=TierConfig(batching=BatchingConfig(max_hold_s=0.1)))},
    {"techniques": Techniques(codecs=("identity", "identity+zstd"), early_exit=True)},
)


@pytest.mark.parametrize(("changes", "key"), CASES)
def test_what_is_left_out_is_named_by_its_key(changes: dict[str, Any], key: str) -> None:
    """Each thing alone, once."""
    texts = not_modelled(Scenario(name="any", **changes))
    assert [text.split(" (")[0] for text in texts] == [key]
    assert simulator_notice(texts) == [f"not modelled by the simulator: {texts[0]}"]


@pytest.mark.parametrize("changes", KNOWN)
def test_what_is_modelled_is_not_named(changes: dict[str, Any]) -> None:
    """Nor what changes nothing."""
    assert not_modelled(Scenario(name="any", **changes)) == ()


@pytest.mark.parametrize("name", shipped_scenarios())
def test_shipped_scenarios_are_modelled_but_for_their_radio(name: str) -> None:
    """Agents train on all of what they meet."""
    scenario = load_scenario(name)
    quiet = msgspec.structs.replace(scenario.topology, radio_power=RadioPower(), radio=msgspec.UNSET)
    bare = msgspec.structs.replace(scenario, topology=quiet)
    assert not_modelled(bare) == ()


@pytest.mark.parametrize(
    ("reused", "tier", "known"),
    [
        ("no", None, True),
        ("cache-exact", "device", True),
        ("cache-exact", "edge", True),
        ("cache-exact", "cloud", False),
        ("cache-similar", "device", False),
        ("cache-similar", "edge", False),
        ("filter-unchanged", "device", True),
        ("filter-irrelevant", "device", False),
    ],
)
def test_what_was_reused_otherwise_is_not_compared(reused: Reused, tier: Tier | None, known: bool) -> None:
    """The simulator would have computed it."""
    assert simulated_too(Outcome(request_id=0, status="ok", reused=reused, reused_at=tier)) is known


@pytest.mark.parametrize("breakdown", [Breakdown(), Breakdown(handover_s=0.01)])
def test_what_was_handed_over_is_not_compared(breakdown: Breakdown) -> None:
    """The simulator has one edge; a hand-over in vain cost time there is none of in it, either."""
    outcome = Outcome(request_id=0, status="ok", handed_over=not breakdown.handover_s, breakdown=breakdown)
    assert not simulated_too(outcome)
