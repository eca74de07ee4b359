"""What the simulator leaves out is said, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from envs.inputs import InputsConfig
from envs.not_modelled import by_events, left_out_notice, not_modelled, simulator_notice
from envs.scenario import Scenario, Techniques, load_scenario, shipped_scenarios
from envs.workload import BackgroundConfig, WorkloadConfig
from runtime.energy import RadioPower
from runtime.inference.batching import BatchingConfig
from runtime.inference.cache import CacheConfig
from runtime.inference.filter import FilterConfig
from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.protocol.handover import HandoverConfig
from runtime.topology import LinkConfig, TierConfig, Topology

WATCHED = WorkloadConfig(inputs=InputsConfig(stream="camera"))
TWO = TenancyConfig(tenants=(TenantConfig(name="a"), TenantConfig(name="b")))
NEIGHBOURS = BackgroundConfig(rate_per_s=5.0)
HANDING = TierConfig(handover=HandoverConfig())

BY_EVENTS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"topology": Topology(edge=TierConfig(cache=CacheConfig(max_distance=4)))}, "edge.cache.max_distance"),
    ({"topology": Topology(device=TierConfig(cache=CacheConfig(any_form=True)))}, "device.cache.any_form"),
    ({"topology": Topology(cloud=TierConfig(cache=CacheConfig()))}, "cloud.cache"),
    ({"topology": Topology(device=TierConfig(filter=FilterConfig(), relevance="m.npz")), "workload": WATCHED}, "device.relevance"),
    ({"topology": Topology(edge=TierConfig(tenancy=TWO))}, "edge.tenancy"),
    ({"topology": Topology(edge=TierConfig(tenancy=TenancyConfig(admission=True)))}, "edge.tenancy"),
    ({"topology": Topology(cloud=TierConfig(batching=BatchingConfig(max_batch=2)))}, "cloud.batching"),
    ({"topology": Topology(device=TierConfig(max_waiting=8))}, "device.max_waiting"),
    ({"topology": Topology(edge=TierConfig(max_waiting=40)), "background": NEIGHBOURS}, "edge.max_waiting"),
    ({"topology": Topology(edge=HANDING, num_edges=2, neighbour=LinkConfig())}, "edge.handover"),
    ({"topology": Topology(edge=TierConfig(model_memory_bytes=1))}, "edge.model_memory_bytes"),
)

NOT_MODELLED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"topology": Topology(radio="lte")}, "radio"),
    ({"topology": Topology(distribute=True)}, "distribute"),
    ({"topology": Topology(edge=HANDING, num_edges=2)}, "neighbour"),
    ({"workload": WorkloadConfig(inputs=InputsConfig(perturbation="noise"))}, "workload.inputs.perturbation"),
    ({"techniques": Techniques(codecs=("identity", "int8"))}, "techniques.codecs"),
    ({"techniques": Techniques(early_exit=True)}, "techniques.early_exit"),
)

KNOWN: tuple[dict[str, Any], ...] = (
    {"topology": Topology(device=TierConfig(cache=CacheConfig()), edge=TierConfig(cache=CacheConfig()))},
    {"topology": Topology(device=TierConfig(filter=FilterConfig(threshold=9.0))), "workload": WATCHED},
    {"topology": Topology(device=TierConfig(filter=FilterConfig(), relevance="m.npz"))},  # frames of no stream
    {"topology": Topology(edge=TierConfig(tenancy=TenancyConfig(tenants=(TenantConfig(name="us", weight=2.0),), credit_s=1.0)))},
    {"topology": Topology(edge=TierConfig(max_waiting=40))},
    {"topology": Topology(edge=TierConfig(batching=BatchingConfig(max_hold_s=0.1)))},
    {"techniques": Techniques(codecs=("identity", "identity+zstd"))},
)


@pytest.mark.parametrize(("changes", "key"), BY_EVENTS)
def test_why_a_scenario_is_simulated_by_events_is_named_by_its_key(changes: dict[str, Any], key: str) -> None:
    """Each thing alone, once; then it is modelled, and people are told why it takes longer."""
    scenario = Scenario(name="any", **changes)
    texts = by_events(scenario)
    assert [text.split(" (")[0] for text in texts] == [key]
    assert not_modelled(scenario) == ()
    assert simulator_notice(scenario) == [f"simulated by events, for {texts[0]}"]


@pytest.mark.parametrize(("changes", "key"), NOT_MODELLED)
def test_what_is_left_out_is_named_by_its_key(changes: dict[str, Any], key: str) -> None:
    """Each thing alone, once."""
    scenario = Scenario(name="any", **changes)
    texts = not_modelled(scenario)
    assert [text.split(" (")[0] for text in texts] == [key]
    assert simulator_notice(scenario)[-1] == left_out_notice(texts)[0] == f"not modelled by the simulator: {texts[0]}"


def test_machines_know_what_was_decided() -> None:
    """Where nodes' own machines are simulated, what they count of a request that may leave early is what live ones count."""
    batching = Topology(edge=TierConfig(batching=BatchingConfig(max_batch=2)))
    assert not_modelled(Scenario(name="any", techniques=Techniques(early_exit=True), topology=batching)) == ()


@pytest.mark.parametrize("changes", KNOWN)
def test_what_the_vectorised_simulator_knows_is_not_named(changes: dict[str, Any]) -> None:
    """Nor what changes nothing."""
    scenario = Scenario(name="any", **changes)
    assert simulator_notice(scenario) == []


def test_a_radio_s_states_are_known_where_events_are_simulated() -> None:
    """There the device's own code charges for them."""
    topology = Topology(radio="lte", edge=TierConfig(tenancy=TWO))
    assert not_modelled(Scenario(name="any", topology=topology)) == ()


@pytest.mark.parametrize("name", shipped_scenarios())
def test_shipped_scenarios_are_modelled_but_for_their_radio(name: str) -> None:
    """Agents train on all of what they meet."""
    scenario = load_scenario(name)
    quiet = msgspec.structs.replace(scenario.topology, radio_power=RadioPower(), radio=msgspec.UNSET)
    bare = msgspec.structs.replace(scenario, topology=quiet)
    assert simulator_notice(bare) == []
