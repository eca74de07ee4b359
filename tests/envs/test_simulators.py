"""Which simulator simulates what."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from envs.make import make_sim
from envs.predictor import Predictor
from envs.scenario import Scenario
from envs.sim import VectorSim
from envs.simulated import SimulatedSystem
from envs.simulation.events.system import EventSystem
from envs.simulation.events.vector import EventSim
from envs.simulators import batch_sim, simulated_system
from envs.vector import OffloadVectorEnv
from runtime.inference.batching import BatchingConfig
from runtime.inference.tenancy import TenancyConfig
from runtime.messages import Decision
from runtime.profile import Overheads
from runtime.protocol.handover import HandoverConfig
from runtime.radios import RADIOS
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig
from tests.envs.busy import busy_scenario
from tests.envs.profiles import make_fixed_scenario, make_profile


def with_edge(**changes: Any) -> Scenario:
    """A few requests, and an edge with these changes."""
    scenario = busy_scenario(20)
    edge = msgspec.structs.replace(scenario.topology.edge, **changes)
    return msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, edge=edge))


def test_what_the_vectorised_one_knows_it_simulates() -> None:
    """It is the fast one."""
    assert isinstance(simulated_system(busy_scenario(), make_profile()), SimulatedSystem)
    assert isinstance(batch_sim(busy_scenario(), make_profile(), 2), VectorSim)


@pytest.mark.parametrize(
    "edge", [{"batching": BatchingConfig(max_batch=2, fixed_fraction=0.5)}, {"tenancy": TenancyConfig(admission=True)}]
)
def test_the_rest_is_simulated_by_events(edge: dict[str, Any]) -> None:
    """As a system and in batches, through the registered environments too."""
    scenario = with_edge(**edge)
    assert isinstance(simulated_system(scenario, make_profile()), EventSystem)
    assert isinstance(batch_sim(scenario, make_profile(), 2), EventSim)
    env = make_sim(scenario, make_profile())
    _, info = env.reset(seed=1)
    assert info["request_id"] == 0
    vector = OffloadVectorEnv(scenario, make_profile(), 2)
    observation, _ = vector.reset(seed=1)
    for _ in range(20):
        observation, reward, done, _, infos = vector.step(vector.action_masks().argmax(axis=1))
    assert done.all()
    assert set(infos) >= {"num_ended", "num_answered", "final_obs"}
    assert observation["state"].shape[0] == len(reward) == 2


def test_hand_over_needs_several_edges() -> None:
    """Only then is anything handed over."""
    scenario = busy_scenario(20)
    several = msgspec.structs.replace(scenario.topology, num_edges=2)
    alone = msgspec.structs.replace(scenario, topology=several)
    assert isinstance(simulated_system(alone, make_profile()), SimulatedSystem)
    edge = msgspec.structs.replace(scenario.topology.edge, handover=HandoverConfig())
    two = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, edge=edge, num_edges=2))
    assert isinstance(simulated_system(two, make_profile()), EventSystem)


def test_a_radio_s_states_alone_are_no_reason() -> None:
    """They are left out by the fast one, and said to be; the other one has them."""
    scenario = busy_scenario(20)
    topology = msgspec.structs.replace(scenario.topology, radio_power=RADIOS["lte"], radio=msgspec.UNSET)
    assert isinstance(simulated_system(msgspec.structs.replace(scenario, topology=topology), make_profile()), SimulatedSystem)


@pytest.mark.parametrize("kind", [SimulatedSystem, EventSystem])
@pytest.mark.parametrize("cut", [0, 1])
def test_energy_is_predicted_as_it_is_charged(kind: type[SimulatedSystem] | type[EventSystem], cut: int) -> None:
    """Of a first request too, whose deadline passes while it is sent: what was handed to the radio is sent to its end."""
    scenario = make_fixed_scenario()
    slow = LinkConfig(rate=ConstantRate(bytes_per_s=10_000))
    scenario = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, uplink=slow))
    system = kind(scenario, msgspec.structs.replace(make_profile(scenario), overheads=Overheads()))
    step = system.reset(1)
    assert step.observation is not None
    decision = Decision(model="digits-cnn", variant="fp32", cuts=(cut, 7), exit=2)
    prediction, index = Predictor(system.cost_model).predict_one(step.observation), system.cost_model.find(decision)
    (outcome,) = (one for one in system.replay(1, {0: decision}) if one.request_id == 0)
    assert (outcome.status, prediction.miss[index]) == ("deadline", 1.0)
    assert prediction.sending_s[index] > scenario.workload.deadline_s
    assert prediction.energy_joules[index] == pytest.approx(outcome.energy_joules)
