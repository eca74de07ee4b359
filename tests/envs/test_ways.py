"""Ways of decisions by hand: what codecs and early exits take, and that predictions are means over ways."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.catalogue import build_catalogue
from envs.costs import CostModel, build_cost_model, legal_decisions
from envs.predictor import Predictor
from envs.raw_state import RawState
from envs.scenario import Scenario
from envs.ways import FACTS, right_answers, ways_of
from runtime.errors import InvalidDecision, InvalidProfile
from runtime.messages import Decision
from tests.envs.profiles import (
    DEVICE_STAGE_S,
    HEAD_S,
    HEADER_BYTES,
    NUM_EXAMPLES,
    TECHNIQUES,
    make_fixed_scenario,
    make_observation,
    make_profile,
    make_rich_profile,
)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return msgspec.structs.replace(make_fixed_scenario(), techniques=TECHNIQUES)


@pytest.fixture(scope="module")
def model(scenario: Scenario) -> CostModel:
    return build_cost_model(make_rich_profile(scenario), scenario)


def decision(p: int, q: int, exit: int = 2, codec: str = "identity", early_exit: bool = True) -> Decision:
    return Decision(model="digits-cnn", variant="fp32", cuts=(p, q), exit=exit, codec=codec, early_exit=early_exit)


def test_ways_share_the_examples(scenario: Scenario) -> None:
    """Each example goes one way; what could leave later than the decision's exit leaves there."""
    profile = make_rich_profile(scenario)
    digits = profile.variants["fp32"].exit_taken["test"]
    shares = [way.share for way in ways_of(profile, decision(2, 5), "test")]
    assert shares == pytest.approx([digits.count(exit) / NUM_EXAMPLES for exit in "012"])
    shares = [way.share for way in ways_of(profile, decision(2, 5, exit=1), "test")]
    assert shares == pytest.approx([digits.count("0") / NUM_EXAMPLES, 1 - digits.count("0") / NUM_EXAMPLES])


def test_a_way_takes_what_lies_before_its_exit(scenario: Scenario) -> None:
    """Exits end after 3, 5 and 7 stages; cuts at 4 and 5: the first leaves on the device, the second on the edge, the third goes on."""
    first, second, third = ways_of(make_rich_profile(scenario), decision(4, 5), "test")
    assert first.device_s == pytest.approx(sum(DEVICE_STAGE_S[:3]) + HEAD_S)
    assert (first.edge_s, first.cloud_s, first.uplink_bytes, first.wan_bytes, first.leakage) == (0, 0, 0, 0, 0)
    assert second.device_s == pytest.approx(sum(DEVICE_STAGE_S[:4]) + HEAD_S)
    assert second.edge_s == pytest.approx((DEVICE_STAGE_S[4] + HEAD_S) / 6)
    assert (second.uplink_bytes, second.wan_bytes) == (16384 + HEADER_BYTES, 0)
    assert third.cloud_s == pytest.approx((sum(DEVICE_STAGE_S[5:]) + HEAD_S) / 20)
    assert third.wan_bytes == 6144 + HEADER_BYTES
    assert (third.device_s, third.edge_s) == (second.device_s, second.edge_s)


def test_a_codec_takes_time_where_it_is_used_and_saves_bytes(scenario: Scenario) -> None:
    """Device and edge encode, edge and cloud decode; an edge that only relays does neither."""
    profile = make_rich_profile(scenario)
    codec = profile.variants["fp32"].codecs["int8+zstd"]
    (plain,) = ways_of(profile, decision(2, 5, early_exit=False), "test")
    (coded,) = ways_of(profile, decision(2, 5, codec="int8+zstd", early_exit=False), "test")
    assert coded.device_s - plain.device_s == pytest.approx(codec.encode_s["device"][2])
    assert coded.edge_s - plain.edge_s == pytest.approx(codec.decode_s["edge"][2] + codec.encode_s["edge"][5])
    assert coded.cloud_s - plain.cloud_s == pytest.approx(codec.decode_s["cloud"][5])
    assert (coded.uplink_bytes, coded.wan_bytes) == (codec.cut_bytes[2], codec.cut_bytes[5])
    assert coded.expected_error > plain.expected_error
    (relayed,) = ways_of(profile, decision(3, 3, codec="int8+zstd", early_exit=False), "test")
    assert relayed.edge_s == 0
    assert relayed.uplink_bytes == relayed.wan_bytes == codec.cut_bytes[3]
    (home,) = ways_of(profile, decision(7, 7, codec="int8+zstd", early_exit=False), "test")
    assert home.device_s == pytest.approx(sum(DEVICE_STAGE_S) + HEAD_S)


def test_a_lossless_codec_keeps_answers(scenario: Scenario) -> None:
    """And a lossy one breaks no answer where nothing crosses a link."""
    profile = make_rich_profile(scenario)
    plain = right_answers(profile, decision(2, 5), 2, "test")
    assert (right_answers(profile, decision(2, 5, codec="identity+lz4"), 2, "test") == plain).all()
    assert not (right_answers(profile, decision(2, 5, codec="int8+zstd"), 2, "test") == plain).all()
    assert (right_answers(profile, decision(7, 7, codec="int8+zstd"), 2, "test") == plain).all()


def test_predictions_are_means_over_ways(model: CostModel) -> None:
    """Every predicted number of an early-exit decision is the share-weighted mean of what each of its ways alone would give."""
    raw = RawState.from_observations(
        [make_observation(), make_observation(edge__backlog_s=0.2), make_observation(uplink__rate_bytes_per_s=5e4)]
    )
    chosen = model.restrict([decision(2, 5), decision(4, 5, codec="int8+zstd"), decision(0, 5, exit=1), decision(7, 7, early_exit=False)])
    mixed = Predictor(chosen).predict(raw)
    for index in range(chosen.num_decisions):
        ways = [way for way, of in enumerate(chosen.way_decision) if of == index]
        alone = []
        for way in ways:
            shares = tuple(float(other == way) if other in ways else share for other, share in enumerate(chosen.way_share))
            alone.append(Predictor(msgspec.structs.replace(chosen, way_share=shares)).predict(raw))
        for name in ("latency_s", "miss", "cost", "energy_joules", "device_s", "uplink_s", "edge_s", "wan_s", "cloud_s"):
            expected = sum(chosen.way_share[way] * getattr(one, name)[:, index] for way, one in zip(ways, alone, strict=True))
            np.testing.assert_allclose(getattr(mixed, name)[:, index], expected, rtol=1e-9, atol=1e-12)


def test_restricting_keeps_ways_together(model: CostModel) -> None:
    """In whatever order decisions are taken, each keeps its own ways."""
    chosen = (decision(4, 5), decision(7, 7, early_exit=False), decision(2, 5, codec="int8+zstd"))
    fewer = model.restrict(chosen)
    assert fewer.way_decision == (0, 0, 0, 1, 2, 2, 2)
    for fact in FACTS:
        assert fewer.mean(fact) == pytest.approx([model.mean(fact)[model.find(one)] for one in chosen])


def test_every_technique_is_enumerated_once(model: CostModel, scenario: Scenario) -> None:
    """No duplicates; a codec only where something crosses, early exit only where an exit lies before."""
    decisions = legal_decisions(make_rich_profile(scenario), TECHNIQUES)
    assert len(set(decisions)) == len(decisions) == model.num_decisions
    assert all(one.codec == "identity" or one.cuts[0] < model.exit_ends[one.exit] for one in decisions)
    assert all(one.exit > 0 for one in decisions if one.early_exit)


def test_the_catalogue_covers_techniques(model: CostModel) -> None:
    """At most 64 of all, and by brute force in fresh states they lose at most half a percent on average."""
    catalogue = build_catalogue(model, samples=4000)
    assert len(catalogue.decisions) <= 64
    assert catalogue.regret_mean <= 0.005
    assert {one.codec for one in catalogue.decisions} > {"identity"}
    assert any(one.early_exit for one in catalogue.decisions)


def test_what_was_not_measured_is_refused(scenario: Scenario) -> None:
    """An unknown codec, and early exit without calibrated confidence."""
    with pytest.raises(InvalidDecision, match="codec 'fp16' was not profiled"):
        build_cost_model(make_rich_profile(scenario), scenario, [decision(2, 5, codec="fp16", early_exit=False)])
    with pytest.raises(InvalidProfile, match="does not say at which exits"):
        build_cost_model(make_profile(scenario), scenario, [decision(2, 5)])
