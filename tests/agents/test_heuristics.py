"""Each heuristic is what its paper says, checked against a plain reading of the formula."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from agents.heuristics import HEURISTICS
from agents.policy import Policy
from envs.costs import CostModel
from envs.predictor import Predictor
from runtime.errors import InvalidDecision
from runtime.messages import Decision, Observation
from tests.agents.bundles import cost_models, record_observations
from tests.envs.profiles import DEVICE_STAGE_S, EXIT_ENDS, FP32_CUT_BYTES, HEAD_S, HEADER_BYTES, make_observation

END = EXIT_ENDS[-1]
EDGE_SPEED = 6.0
CUT_BYTES = [4096 + HEADER_BYTES, *(size + HEADER_BYTES for size in FP32_CUT_BYTES)]


def _policy(name: str) -> Policy:
    return HEURISTICS[name](*cost_models())


def _stage_sums(cut: int, exit: int) -> tuple[float, float]:
    """Seconds on the device before the cut and on the edge behind it, the head where the last stage runs."""
    end = EXIT_ENDS[exit]
    device_s = sum(DEVICE_STAGE_S[:cut]) + (HEAD_S if cut == end else 0.0)
    edge_s = (sum(DEVICE_STAGE_S[cut:end]) + HEAD_S) / EDGE_SPEED if cut < end else 0.0
    return device_s, edge_s


def _neurosurgeon_latency_s(observation: Observation, cut: int) -> float:
    device_s, edge_s = _stage_sums(cut, exit=2)
    if cut == END:
        return device_s
    return device_s + CUT_BYTES[cut] / observation.links[0].rate_bytes_per_s + edge_s + observation.nodes[1].backlog_s


@pytest.mark.parametrize(("name", "cuts"), [("device-only", (END, END)), ("edge-only", (0, END)), ("cloud-only", (0, 0))])
def test_static_policies_place_the_whole_full_model(name: str, cuts: tuple[int, int]) -> None:
    """Full fp32 model, everything in one place, even where that place does not answer."""
    decision = _policy(name).decide(make_observation(edge__reachable=False))
    assert (decision.variant, decision.exit, decision.cuts) == ("fp32", 2, cuts)


def test_neurosurgeon_takes_the_fastest_cut_of_the_full_model() -> None:
    """The decision attains the minimum of TM + TU + TC(K) over all single cuts, at any bandwidth and load."""
    policy = _policy("neurosurgeon")
    cuts_taken = set()
    for rate, load_s in itertools.product(np.geomspace(2e4, 1e8, 12), (0.0, 0.02, 0.2)):
        observation = make_observation(uplink__rate_bytes_per_s=float(rate), edge__backlog_s=load_s)
        decision = policy.decide(observation)
        assert (decision.variant, decision.exit, decision.cuts[1]) == ("fp32", 2, END)
        best_s = min(_neurosurgeon_latency_s(observation, cut) for cut in range(END + 1))
        assert _neurosurgeon_latency_s(observation, decision.cuts[0]) == pytest.approx(best_s)
        cuts_taken.add(decision.cuts[0])
    assert {0, END} <= cuts_taken


def test_neurosurgeon_ignores_what_the_paper_ignores() -> None:
    """The device's own queue, the link's and its delay change nothing."""
    policy = _policy("neurosurgeon")
    plain = policy.decide(make_observation())
    loaded = make_observation(device__backlog_s=1.0, uplink__outstanding_bytes=1e6, uplink__delay_s=0.3)
    assert policy.decide(loaded) == plain


def _edgent_reading(observation: Observation) -> tuple[int, int]:
    """Edgent's loops, literally: exits from the deepest; the best cut of each; the first that fits."""
    rate, found = observation.links[0].rate_bytes_per_s, []
    for exit in (2, 1, 0):
        latencies = []
        for cut in range(EXIT_ENDS[exit] + 1):
            device_s, edge_s = _stage_sums(cut, exit)
            transfer_s = CUT_BYTES[cut] / rate if cut < EXIT_ENDS[exit] else 0.0
            latencies.append((device_s + edge_s + transfer_s, cut))
        best_s, cut = min(latencies)
        if best_s <= observation.deadline_s:
            return exit, cut
        found.append((best_s, exit, cut))
    _, exit, cut = min(found)
    return exit, cut


def test_edgent_takes_the_deepest_exit_in_time() -> None:
    """The decision is the one of the paper's loops, over a grid of bandwidths and deadlines."""
    policy, exits_taken = _policy("edgent"), set()
    for rate, deadline_s in itertools.product(np.geomspace(2e4, 1e8, 10), (0.001, 0.01, 0.02, 0.04, 0.05, 0.3)):
        observation = make_observation(uplink__rate_bytes_per_s=float(rate), deadline_s=deadline_s)
        decision = policy.decide(observation)
        assert decision.variant == "fp32"
        assert decision.cuts[1] == EXIT_ENDS[decision.exit]
        assert (decision.exit, decision.cuts[0]) == _edgent_reading(observation)
        exits_taken.add(decision.exit)
    assert exits_taken == {0, 1, 2}


def test_greedy_takes_the_least_predicted_cost() -> None:
    """Of the reachable candidates, by the predictor that the features come from."""
    _, catalogue = cost_models()
    policy, predictor = _policy("greedy"), Predictor(catalogue)
    for observation in record_observations(200):
        prediction = predictor.predict_one(observation)
        decided = prediction.cost[catalogue.find(policy.decide(observation))]
        assert decided == pytest.approx(prediction.cost[prediction.allowed].min())


@pytest.mark.parametrize("name", ["neurosurgeon", "edgent"])
def test_without_the_edge_everything_stays_on_the_device(name: str) -> None:
    """A tier that does not answer is as if it were not there."""
    decision = _policy(name).decide(make_observation(edge__reachable=False, uplink__rate_bytes_per_s=1e9))
    assert decision.cuts[0] == EXIT_ENDS[decision.exit]


def test_a_cost_model_without_the_needed_decisions_says_which() -> None:
    """A heuristic that cannot be made says what it misses."""
    everything, _ = cost_models()
    int8 = [decision for decision in everything.decisions if decision.variant == "int8"]
    poor: CostModel = everything.restrict(int8)
    for name in ("cloud-only", "device-only", "edge-only", "edgent", "neurosurgeon"):
        with pytest.raises(InvalidDecision, match=name.split("-")[0][:4]):
            HEURISTICS[name](poor, poor)


def test_decisions_are_plain_values() -> None:
    """Equal observations give equal decisions, which hash alike: they can be counted and looked up."""
    policy = _policy("greedy")
    decisions: set[Decision] = {policy.decide(make_observation()) for _ in range(3)}
    assert len(decisions) == 1
