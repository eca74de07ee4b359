"""The cost model: static facts of decisions."""

from __future__ import annotations

import msgspec
import pytest

from envs.costs import CostModel, build_cost_model, legal_decisions
from envs.scenario import Scenario
from envs.ways import FACTS
from runtime.errors import InvalidDecision, InvalidProfile
from runtime.messages import Decision
from runtime.profile import Profile
from runtime.rates import CellularRate
from tests.envs.profiles import HEADER_BYTES, make_fixed_scenario, make_profile


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return make_fixed_scenario()


@pytest.fixture(scope="module")
def profile() -> Profile:
    return make_profile()


@pytest.fixture(scope="module")
def model(profile: Profile, scenario: Scenario) -> CostModel:
    return build_cost_model(profile, scenario)


def decision(p: int, q: int, exit: int = 2, variant: str = "fp32", model: str = "digits-cnn") -> Decision:
    return Decision(model=model, variant=variant, cuts=(p, q), exit=exit)


def test_legal_decisions_are_all_pairs_of_cuts(profile: Profile) -> None:
    """Ends 3, 5, 7 have 10 + 21 + 36 pairs of cuts, in two variants, each once."""
    decisions = legal_decisions(profile)
    assert len(decisions) == len(set(decisions)) == 2 * (10 + 21 + 36)
    assert all(0 <= d.cuts[0] <= d.cuts[1] <= profile.end(d) for d in decisions)


def test_a_tau_makes_no_other_decision(model: CostModel) -> None:
    """It is the training job's: the same candidate is found, and what is not there stays unknown."""
    assert model.find(msgspec.structs.replace(model.decisions[3], tau=7)) == 3
    with pytest.raises(InvalidDecision):
        model.find(msgspec.structs.replace(decision(0, 0, model="other"), tau=7))


def test_facts_of_a_split_over_three_tiers(model: CostModel) -> None:
    """Stages, heads, bytes, error, leakage and memory come from the right place."""
    i = model.find(decision(2, 5))
    assert model.device_s[i] == pytest.approx(0.012 + 0.010)
    assert model.edge_s[i] == pytest.approx((0.008 + 0.009 + 0.006) / 6)
    assert model.cloud_s[i] == pytest.approx((0.005 + 0.004 + 0.001) / 20)  # the head with the last stages
    assert model.uplink_bytes[i] == 32768 + HEADER_BYTES
    assert model.wan_bytes[i] == 6144 + HEADER_BYTES
    assert model.expected_error[i] == pytest.approx(0.03)
    assert model.leakage[i] == 0.8
    assert model.memory_bytes[i] == 90e6 + 100e6 + 110e6


def test_nothing_leaves_the_device_in_device_only(model: CostModel) -> None:
    """Device-only has no bytes, no leak and no remote time; its head runs on the device."""
    i = model.find(decision(3, 3, exit=0, variant="int8"))
    assert model.device_s[i] == pytest.approx((0.012 + 0.010 + 0.008 + 0.001) / 2)
    assert (model.edge_s[i], model.cloud_s[i], model.uplink_bytes[i], model.wan_bytes[i], model.leakage[i]) == (0, 0, 0, 0, 0)
    assert model.memory_bytes[i] == 90e6
    assert model.expected_error[i] == pytest.approx(0.15)


def test_a_relay_edge_has_bytes_but_no_compute(model: CostModel) -> None:
    """With p == q < end the edge passes cut p on: the same bytes on both links, no edge time, no edge memory."""
    i = model.find(decision(0, 0))
    assert model.edge_s[i] == 0.0
    assert model.uplink_bytes[i] == model.wan_bytes[i] == 4096 + HEADER_BYTES
    assert model.leakage[i] == 1.0
    assert model.memory_bytes[i] == 110e6
    assert model.cloud_s[i] == pytest.approx((0.054 + 0.001) / 20)


def test_json_round_trip(model: CostModel) -> None:
    """Encoding and decoding gives an equal cost model, with the same predictions to come."""
    again = msgspec.json.decode(msgspec.json.encode(model), type=CostModel)
    assert again == model
    assert again.find(again.decisions[77]) == 77


def test_restrict_keeps_the_facts_in_the_order_given(model: CostModel) -> None:
    """A restricted model's entry i is that of decision i; everything else is unchanged."""
    chosen = (model.decisions[100], model.decisions[3], model.decisions[50])
    fewer = model.restrict(chosen)
    assert fewer.decisions == chosen
    for name in FACTS:
        assert getattr(fewer, name) == tuple(getattr(model, name)[i] for i in (100, 3, 50))
    assert (fewer.objective, fewer.uplink, fewer.exit_ends) == (model.objective, model.uplink, model.exit_ends)
    assert fewer.find(chosen[2]) == 2


def test_restrict_and_build_agree(model: CostModel, profile: Profile, scenario: Scenario) -> None:
    """Building for some decisions is building for all and restricting."""
    chosen = model.decisions[10:20]
    assert build_cost_model(profile, scenario, chosen) == model.restrict(chosen)


def test_find_and_restrict_refuse_strangers(model: CostModel) -> None:
    """A decision that is not in the model is named in the error."""
    with pytest.raises(InvalidDecision, match="slim x2 d0-e7"):
        model.find(decision(0, 7, variant="slim"))
    with pytest.raises(InvalidDecision, match="fp32 x0 d0-e7"):
        model.restrict([model.decisions[0], decision(0, 7, exit=0)])
    with pytest.raises(InvalidProfile, match="needs decisions"):
        model.restrict([])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (decision(0, 7, variant="slim"), "'slim' of 'digits-cnn' was not profiled"),
        (decision(0, 7, model="resnet"), "was not profiled"),
        (decision(0, 7, exit=3), "exit 3 does not exist"),
        (decision(2, 6, exit=1), "past exit 1"),
        (msgspec.structs.replace(decision(0, 7), codec="fp16"), "codec 'fp16'"),
    ],
)
def test_decisions_the_model_cannot_carry_out_are_refused(wrong: Decision, message: str, profile: Profile, scenario: Scenario) -> None:
    """build_cost_model checks each decision against the profile."""
    with pytest.raises(InvalidDecision, match=message):
        build_cost_model(profile, scenario, [wrong])


def test_profiles_that_do_not_fit_are_refused(profile: Profile, scenario: Scenario) -> None:
    """Another model, a missing split, a missing tier and no decisions are InvalidProfile."""
    with pytest.raises(InvalidProfile, match="'resnet'"):
        build_cost_model(msgspec.structs.replace(profile, model="resnet"), scenario)
    with pytest.raises(InvalidProfile, match="split 'train'"):
        build_cost_model(profile, scenario, split="train")
    without_edge = {
        name: msgspec.structs.replace(variant, stage_s={tier: s for tier, s in variant.stage_s.items() if tier != "edge"})
        for name, variant in profile.variants.items()
    }
    with pytest.raises(InvalidProfile, match="7 stages, 8 cuts and 3 exits"):
        build_cost_model(msgspec.structs.replace(profile, variants=without_edge), scenario)
    with pytest.raises(InvalidProfile, match="needs decisions"):
        build_cost_model(profile, scenario, [])


@pytest.mark.parametrize(
    "change",
    [{"device_s": (1.0,)}, {"device_s": (float("nan"),) * 134}, {"wan_bytes": (-1.0,) * 134}, {"deadline_s": 0.0}],
)
def test_an_inconsistent_cost_model_cannot_be_built(model: CostModel, change: dict[str, object]) -> None:
    """Lengths and numbers are checked when it is built, so a corrupt bundle's is refused too."""
    with pytest.raises(InvalidProfile):
        msgspec.structs.replace(model, **change)


def test_split_decides_the_expected_error(profile: Profile, scenario: Scenario) -> None:
    """Errors are those measured on the split asked for."""
    odd = {
        name: msgspec.structs.replace(variant, accuracy=variant.accuracy | {"test": (0.5, 0.6, 0.7)})
        for name, variant in profile.variants.items()
    }
    model = build_cost_model(msgspec.structs.replace(profile, variants=odd), scenario, split="test")
    assert model.split == "test"
    assert model.expected_error[model.find(decision(0, 7))] == pytest.approx(0.3)


def test_down_rates_are_the_emulations_or_the_measured_ones(profile: Profile, scenario: Scenario) -> None:
    """An emulated link brings results at its configured rate, a varying one at its median, a real one as measured upwards."""
    topology = scenario.topology
    varying = CellularRate(median_bytes_per_s=1e6, sigma=0.3)
    links = {
        "uplink": msgspec.structs.replace(topology.uplink, down_rate=varying),
        "wan": msgspec.structs.replace(topology.wan, emulated=False),
    }
    changed = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(topology, **links))
    model = build_cost_model(profile, changed)
    assert 0.5e6 < model.uplink_down_bytes_per_s < 2e6
    assert model.wan_down_bytes_per_s == profile.wan.rate_bytes_per_s
    assert build_cost_model(profile, scenario).uplink_down_bytes_per_s == 2_500_000
