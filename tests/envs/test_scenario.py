"""What a scenario's profile depends on, and what not."""

from __future__ import annotations

import msgspec
import pytest

from envs.calibration import calibration_scenario
from envs.inputs import InputsConfig
from envs.scenario import NO_TECHNIQUES, Scenario, load_scenario, shipped_scenarios
from runtime.config import decode_config
from runtime.errors import InvalidConfig
from runtime.inference.cache import CacheConfig
from runtime.inference.filter import FilterConfig
from runtime.protocol.handover import HandoverConfig
from runtime.topology import LinkConfig, TierConfig, Topology


@pytest.mark.parametrize("name", shipped_scenarios())
def test_reuse_does_not_make_another_profile_necessary(name: str) -> None:
    """Profiles are measured without it, so a scenario with and without it share one."""
    scenario = load_scenario(name)
    device = msgspec.structs.replace(scenario.topology.device, cache=CacheConfig(), filter=FilterConfig(), relevance="file")
    reusing = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, device=device))
    slower = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, device=TierConfig(slowdown=99.0)))
    assert reusing.topology_digest() == scenario.topology_digest() != slower.topology_digest()


def test_a_scenario_switches_its_device_s_looking() -> None:
    """On and off again with the technique, in a file as in code; it needs no other profile, and no other tier may look."""
    on = decode_config({"name": "any", "techniques": {"difficulty": True}}, Scenario, "test")
    off = msgspec.structs.replace(on, techniques=NO_TECHNIQUES)
    assert (on.topology.device.difficulty, off.topology.device.difficulty) == (True, False)
    assert (off, on.topology_digest()) == (Scenario(name="any"), off.topology_digest())
    assert not calibration_scenario(off).topology.device.difficulty
    assert on.topology.without_reuse() == Topology()
    with pytest.raises(InvalidConfig, match="only the device tells it"):
        Topology(edge=TierConfig(difficulty=True))


def test_profiles_of_before_reuse_stay_valid() -> None:
    """The digest of a topology without reuse is what it was when there was none."""
    assert Scenario(name="any").topology_digest() == "54986c089d9814e7c3347f8131ffa964e7b58976b214fa70d3cb21de1bd657d2"


def test_profiles_are_calibrated_without_reuse() -> None:
    """Requests that were answered from a cache would make every tier look fast."""
    scenario = Scenario(name="any", topology=Topology(edge=TierConfig(cache=CacheConfig())))
    assert calibration_scenario(scenario).topology == Topology()


def test_further_edges_do_not_make_another_profile_necessary() -> None:
    """A profile holds what one request takes alone, and alone it is not handed over: it is measured with one edge."""
    link = LinkConfig(emulated=False)
    scenario = Scenario(name="any", topology=Topology(num_edges=3, neighbour=link, edge=TierConfig(handover=HandoverConfig())))
    assert scenario.topology_digest() == Scenario(name="any").topology_digest()
    assert calibration_scenario(scenario).topology == Topology()


def test_where_files_are_does_not_make_another_profile_necessary() -> None:
    """Profiles are measured with everything in memory on every node."""
    scenario = Scenario(name="any", topology=Topology(distribute=True, edge=TierConfig(model_memory_bytes=1)))
    assert scenario.topology_digest() == Scenario(name="any").topology_digest()
    assert calibration_scenario(scenario).topology == Topology()


def test_a_scenario_says_how_its_inputs_repeat() -> None:
    """In a table of the workload; a mistake is named with its key and what is allowed."""
    data = {"name": "any", "workload": {"inputs": {"zipf_exponent": 0.8, "perturbation": "noise"}}}
    assert decode_config(data, Scenario, "test").workload.inputs == InputsConfig(zipf_exponent=0.8, perturbation="noise")
    for wrong, word in (({"zipf": 1}, "zipf_exponent, frames"), ({"perturbation": "blur"}, "blur"), ({"frames_per_picture": 0.5}, ">= 1")):
        with pytest.raises(InvalidConfig, match=word):
            decode_config({"name": "any", "workload": {"inputs": wrong}}, Scenario, "test")


def test_a_job_beside_requests_has_a_device_for_each_client() -> None:
    """Without the table the same `[fit]` is trained by `drlctl fit` alone, on nodes of its own."""
    table = {"name": "any", "fit": {"data": {"num_clients": 3}, "tau": {"tau": 5}}, "job": {"taus": [1, 5]}}
    scenario = decode_config(table, Scenario, "test")
    assert (scenario.num_devices, Scenario(name="any").num_devices) == (3, 1)
    assert scenario.topology_digest() == Scenario(name="any").topology_digest()
    assert calibration_scenario(scenario).job is None


@pytest.mark.parametrize(
    ("fit", "job", "problem"),
    [
        ({"tau": {"tau": 5}}, {"taus": [1, 2]}, "one of job.taus"),
        ({"tau": {"tau": 5}}, {"taus": [5, 1]}, "rise"),
        ({"tau": {"tau": 5, "max_tau": 20}}, {"taus": [5, 50]}, "max_tau must be at least 50"),
        ({"tau": {"tau": 5}, "architecture": "gossip"}, {"taus": [5]}, "federated"),
        ({"tau": {"tau": 5}, "evaluate_every": 2}, {"taus": [5]}, "evaluate_every"),
        ({"tau": {"tau": 5}, "sample_fraction": 0.5}, {"taus": [5]}, "takes part in every round"),
        ({"tau": {"tau": 5}}, {"taus": [5], "held_out_tau": 0}, "held_out_tau must be >= 1"),
        ({"tau": {"tau": 5}}, {"taus": [5], "hidden": 3}, "hidden"),
    ],
)
def test_a_job_that_cannot_train_beside_requests_is_refused(fit: dict[str, object], job: dict[str, object], problem: str) -> None:
    """With the key that says so."""
    with pytest.raises(InvalidConfig, match=problem):
        decode_config({"name": "any", "fit": fit, "job": job}, Scenario, "test")
