"""The catalogue: few decisions that lose next to nothing against all of them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.catalogue import (
    LEAST_GAIN,
    MAX_DECISIONS,
    Catalogue,
    always_included,
    build_catalogue,
    decisions_digest,
    regret,
    sample_states,
    sample_weights,
)
from envs.costs import CostModel, build_cost_model, legal_decisions
from envs.predictor import Predictor
from envs.reward import Objective
from runtime.errors import InvalidInput
from runtime.messages import Decision
from tests.envs.profiles import make_deep_profile, make_fixed_scenario, make_profile

MODEL = build_cost_model(make_profile(), make_fixed_scenario())
NUM_WEIGHTS = 7


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return build_catalogue(MODEL)


def brute_force_regret(model: CostModel, chosen: tuple[Decision, ...], samples: int, seed: int, priced: bool) -> np.ndarray:
    """Relative regret in each sampled state, from float64 predictions and the reward's terms written out."""
    rng = np.random.default_rng(seed)
    raw, weights = sample_states(model, samples, rng), sample_weights(model, samples, rng)
    if not priced:
        weights[NUM_WEIGHTS:] = 0.0
    prediction = Predictor(model).predict(raw)
    latency, miss_weight, error_weight, energy, uplink, leakage, memory, device_price, sending_price, edge_price = weights[:, :, None]
    deadline_s, miss, error = raw.deadline_s[:, None], prediction.miss, np.array(model.expected_error)
    cost = latency * np.minimum(prediction.latency_s, deadline_s) + miss_weight * miss + error_weight * np.where(miss > 0, 1.0, error)
    cost = cost + energy * prediction.energy_joules + uplink * np.array(model.uplink_bytes) + leakage * np.array(model.leakage)
    cost = cost + memory * np.array(model.memory_bytes) + device_price * np.array(model.device_s) + edge_price * np.array(model.edge_s)
    cost = np.where(prediction.allowed, cost + sending_price * np.minimum(prediction.sending_s, deadline_s), np.inf)
    members = [model.find(decision) for decision in chosen]
    losses: np.ndarray = cost[:, members].min(axis=1) / cost.min(axis=1) - 1
    return losses


def test_coverage_against_brute_force(catalogue: Catalogue) -> None:
    """Over 10,000 fresh states at most 0.5 % is lost on average, with prices on what others lose and without."""
    assert len(catalogue.decisions) < MODEL.num_decisions
    for priced in (True, False):
        assert brute_force_regret(MODEL, catalogue.decisions, 10_000, seed=777, priced=priced).mean() <= 0.005


def test_reported_regret_is_brute_forces(catalogue: Catalogue) -> None:
    """regret() in float32 blocks says what float64 predictions of everything say, on the same states."""
    chosen = catalogue.decisions[:6]
    mean, worst = regret(MODEL, [MODEL.find(decision) for decision in chosen], 3000, seed=5)
    losses = brute_force_regret(MODEL, chosen, 3000, seed=5, priced=True)
    assert mean == pytest.approx(losses.mean(), rel=1e-2)
    assert mean > 1e-3
    assert worst == pytest.approx(losses.max(), rel=1e-2)


@pytest.mark.parametrize("limit", [6, 8, 12, MAX_DECISIONS])
def test_always_included_and_within_the_limit(limit: int) -> None:
    """Whatever the limit: device-, edge- and cloud-only of the full fp32 model, and device-only of every exit, are in."""
    decisions = build_catalogue(MODEL, limit=limit, samples=2000).decisions
    assert len(decisions) <= limit
    assert len(set(decisions)) == len(decisions)
    for exit, cuts in ((0, (3, 3)), (1, (5, 5)), (2, (7, 7)), (2, (0, 7)), (2, (0, 0))):
        assert Decision(model=MODEL.model, variant="fp32", cuts=cuts, exit=exit) in decisions


def test_more_members_lose_less() -> None:
    """Mean regret falls as the limit rises."""
    regrets = [build_catalogue(MODEL, limit=limit, samples=2000).regret_mean for limit in (5, 6, 7, 8, 16)]
    assert regrets == sorted(regrets, reverse=True)
    assert regrets[0] > 10 * regrets[-1]


def test_greedy_chooses_as_exhaustive_evaluation_would() -> None:
    """Lazy evaluation picks what evaluating every gain at every step picks."""
    model = build_cost_model(make_profile(), make_fixed_scenario(), MODEL.decisions[:67])
    lazy = {model.find(decision) for decision in build_catalogue(model, limit=9, samples=600).decisions}
    chosen = always_included(model)
    relative = np.stack([brute_force_regret(model, (decision,), 600, 0, priced=True) for decision in model.decisions], axis=1)
    while len(chosen) < 9:
        best = relative[:, chosen].min(axis=1)
        gains = np.maximum(best[:, None] - relative, 0).sum(axis=0)
        if gains.max() < LEAST_GAIN * 600:
            break
        chosen.append(int(gains.argmax()))
    assert lazy == set(chosen)


def test_the_same_arguments_give_the_same_catalogue(catalogue: Catalogue) -> None:
    """Members and digest are a function of cost model, limit, samples and seed; members keep the legal order."""
    again = build_catalogue(MODEL)
    assert again == catalogue
    assert again.digest() == catalogue.digest()
    indices = [MODEL.find(decision) for decision in catalogue.decisions]
    assert indices == sorted(indices)


def test_digest_is_of_the_decisions_and_their_order(catalogue: Catalogue) -> None:
    """The digest survives JSON, changes with order or members, and is a known constant for a known list."""
    decisions = catalogue.decisions
    copy = msgspec.json.decode(msgspec.json.encode(catalogue), type=Catalogue)
    assert copy.digest() == catalogue.digest() == decisions_digest(list(decisions))
    assert decisions_digest(decisions[::-1]) != catalogue.digest() != decisions_digest(decisions[:-1])
    known = (Decision(model="m", variant="fp32", cuts=(0, 2), exit=0),)
    assert decisions_digest(known) == "74f8d1a4e4d3a2005b8a12bf3bd0ec80afa1bfb673da0a3716e83b61750b4cf5"


def test_sampled_states_are_plausible() -> None:
    """Rates, delays, backlogs, deadlines and reachability lie in the documented ranges, with mass at idle."""
    raw = sample_states(MODEL, 5000, np.random.default_rng(1))
    deadline_s = MODEL.deadline_s
    assert 2e4 <= raw.uplink_rate_bytes_per_s.min() < 4e4
    assert 2.5e7 < raw.uplink_rate_bytes_per_s.max() <= 5e7
    assert deadline_s / 2 <= raw.deadline_s.min()
    assert raw.deadline_s.max() <= 2 * deadline_s
    for backlog_s in (raw.device_backlog_s, raw.edge_backlog_s, raw.uplink_outstanding_bytes / raw.uplink_rate_bytes_per_s):
        assert 0.4 < (backlog_s == 0).mean() < 0.6
        assert backlog_s.max() <= 2 * deadline_s * (1 + 1e-12)
    assert 0.9 < raw.edge_reachable.mean() < 1.0


def test_weights_of_zero_stay_zero() -> None:
    """Terms that the objective does not charge play no part."""
    model = msgspec.structs.replace(MODEL, objective=Objective(leakage=0.0, memory_per_byte=0.0))
    weights = sample_weights(model, 100, np.random.default_rng(0))
    assert (weights[5:7] == 0).all()
    assert (weights[:4] > 0).all()
    ratio = weights[0] / model.objective.latency_per_s
    assert ratio.min() >= 0.25
    assert ratio.max() <= 4.0


def test_impossible_requests_are_refused() -> None:
    """A limit below the members that must be in, or no samples, is InvalidInput."""
    with pytest.raises(InvalidInput, match="limit >= 5"):
        build_catalogue(MODEL, limit=4)
    with pytest.raises(InvalidInput, match="samples >= 1"):
        build_catalogue(MODEL, samples=0)


def test_a_cost_model_without_the_usual_members_has_a_catalogue() -> None:
    """Remote int8 decisions alone: nothing must be in, something is."""
    remote = MODEL.restrict([d for d in MODEL.decisions if d.variant == "int8" and d.cuts[0] < MODEL.exit_ends[d.exit]][:20])
    catalogue = build_catalogue(remote, limit=4, samples=500)
    assert 1 <= len(catalogue.decisions) <= 4


def test_thousands_of_decisions_are_few_enough() -> None:
    """A deep model's 1,892 decisions reduce to at most 64 that lose next to nothing."""
    profile = make_deep_profile(42)
    assert len(legal_decisions(profile)) == 1892
    catalogue = build_catalogue(build_cost_model(profile, make_fixed_scenario()), samples=2000)
    assert len(catalogue.decisions) <= MAX_DECISIONS
    assert catalogue.regret_mean <= 0.005
    assert catalogue.num_legal == 1892
