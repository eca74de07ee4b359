"""The catalogue: at most 64 of the legal decisions, chosen so that some member is (nearly) best wherever the system may be.

Sampled states span what links, queues, reports and deadlines may be.  Sampled objectives scale the scenario's
weights, and add prices on what a decision takes from the requests after it: a policy that looks ahead
behaves as if seconds of the device, the uplink and the edge had a price.  Members are added greedily,
each the one that lowers the mean relative regret most.  Lowering a mean of minima is submodular, so a gain
computed earlier is an upper bound, most gains need no second look (lazy evaluation), and the greedy choice
achieves at least 1 - 1/e of the best possible reduction.

Sources: Minoux, Optimization Techniques 1978 (lazy evaluation); Nemhauser, Wolsey, Fisher, Mathematical
Programming 1978 (the bound).
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from envs.costs import CostModel, build_cost_model
from envs.predictor import CHARGES, Predictor, weights_of
from envs.raw_state import FloatArray, RawState
from envs.reward import TERMS
from envs.scenario import Scenario
from runtime.errors import InvalidInput
from runtime.inference.logistic import sigmoid
from runtime.messages import Decision
from runtime.profile import Profile

MAX_DECISIONS = 64
"""What an action space may hold."""
REFERENCE_VARIANT = "fp32"
LEAST_GAIN = 1e-6
"""A member must lower the mean relative regret by this much: far above rounding, far below mattering."""
PRICED = ("device_s", "sending", "edge_s")
"""What sampled prices are on: seconds of the device's and the edge's processor, and of the uplink."""

_BLOCK = 1 << 16
"""States times decisions predicted at once."""
_MAX_PAIRS = 20_000_000
"""States times decisions that members are chosen by; a model of very many decisions is chosen by fewer states."""
_FRESH_SEED_STEP = 1_000_003
_UNREACHABLE_COST = 1e9
_TINY_COST = 1e-9


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen decisions, and how much is lost by having no others."""

    decisions: tuple[Decision, ...]
    """In the order of the legal decisions."""
    num_legal: int
    """How many there were to choose from."""
    regret_mean: float
    """(best cost in the catalogue - best cost of all) / best cost of all, mean over fresh sampled states."""
    regret_max: float
    num_samples: int

    def digest(self) -> str:
        """SHA-256 of the decisions in their order: what an action means."""
        return decisions_digest(self.decisions)


def decisions_digest(decisions: Sequence[Decision]) -> str:
    """SHA-256 of decisions in their order."""
    return hashlib.sha256(msgspec.json.encode(tuple(decisions))).hexdigest()


def build_catalogue(cost_model_all: CostModel, limit: int = MAX_DECISIONS, samples: int = 10_000, seed: int = 0) -> Catalogue:
    """Choose at most `limit` of the cost model's decisions; the same arguments give the same catalogue.

    It grows until no further member gains, or to the limit.  It always has device-only, edge-only and cloud-only
    of the full reference model and device-only of its every exit, as far as the cost model has them.  Raises
    InvalidInput when `limit` has no room for these.
    """
    always = always_included(cost_model_all)
    if limit < max(1, len(always)) or samples < 1:
        raise InvalidInput(f"a catalogue of this model needs limit >= {len(always)} and samples >= 1, got {limit} and {samples}")
    chosen = _cover(_relative_costs(cost_model_all, samples, seed), always, limit)
    mean, worst = regret(cost_model_all, chosen, samples, seed + _FRESH_SEED_STEP)
    return Catalogue(
        decisions=tuple(cost_model_all.decisions[index] for index in chosen),
        num_legal=cost_model_all.num_decisions,
        regret_mean=mean,
        regret_max=worst,
        num_samples=samples,
    )


def catalogued(scenario: Scenario, profile: Profile, split: str = "validation", decisions: Sequence[Decision] | None = None) -> CostModel:
    """The cost model of `decisions` (default: the scenario's catalogue).  Raises what `build_cost_model` raises."""
    if decisions is not None:
        return build_cost_model(profile, scenario, decisions, split)
    every = build_cost_model(profile, scenario, split=split)
    return every.restrict(build_catalogue(every).decisions)


def always_included(cost_model: CostModel) -> list[int]:
    """Indices of the decisions that every catalogue has, rising."""
    variants = {decision.variant for decision in cost_model.decisions}
    reference = REFERENCE_VARIANT if REFERENCE_VARIANT in variants else cost_model.decisions[0].variant
    ends = cost_model.exit_ends
    wanted = {(exit, (end, end)) for exit, end in enumerate(ends)} | {(len(ends) - 1, (0, ends[-1])), (len(ends) - 1, (0, 0))}
    plain = [i for i, d in enumerate(cost_model.decisions) if d.variant == reference and d.codec == "identity" and not d.early_exit]
    return [i for i in plain if (cost_model.decisions[i].exit, cost_model.decisions[i].cuts) in wanted]


def regret(cost_model: CostModel, chosen: Sequence[int], samples: int, seed: int) -> tuple[float, float]:
    """Mean and largest relative regret of having only `chosen`, by trying every decision in `samples` states of `seed`."""
    total, worst, members = 0.0, 0.0, np.array(chosen)
    for costs in _sampled_costs(cost_model, samples, seed):
        best = np.maximum(costs.min(axis=0), _TINY_COST)
        losses = costs[members].min(axis=0) / best - 1
        total, worst = total + float(losses.sum(dtype=np.float64)), max(worst, float(losses.max()))
    return total / samples, worst


# ---------------------------------------------------------------- where the system may be


def sample_states(cost_model: CostModel, num: int, rng: np.random.Generator) -> RawState:
    """N plausible states.  T is the workload's deadline.

    uplink 2e4..5e7 B/s, wan 1e5..1e8 B/s, delays 1..60 ms, deadlines T/2..2T    log-uniform
    backlogs of nodes 0..2T, outstanding seconds of links 0..2T                  half zero, else 2T * uniform^2
    ages of reports 0..0.5 s                                                     uniform
    edge and cloud unreachable                                                   one in thirty each
    errors of exits on the input, where they are predicted                       see `_difficulty`
    """
    usual_s = cost_model.deadline_s
    raw = RawState.empty(num)
    raw.deadline_s = _log_uniform(rng, usual_s / 2, usual_s * 2, num)
    raw.uplink_rate_bytes_per_s = _log_uniform(rng, 2e4, 5e7, num)
    raw.wan_rate_bytes_per_s = _log_uniform(rng, 1e5, 1e8, num)
    raw.uplink_delay_s = _log_uniform(rng, 1e-3, 0.06, num)
    raw.wan_delay_s = _log_uniform(rng, 1e-3, 0.06, num)
    raw.device_backlog_s = _backlog(rng, 2 * usual_s, num)
    raw.edge_backlog_s = _backlog(rng, 2 * usual_s, num)
    raw.cloud_backlog_s = _backlog(rng, 2 * usual_s, num)
    raw.edge_age_s, raw.cloud_age_s = rng.uniform(0, 0.5, (2, num))
    raw.uplink_outstanding_bytes = _backlog(rng, 2 * usual_s, num) * raw.uplink_rate_bytes_per_s
    raw.wan_outstanding_bytes = _backlog(rng, 2 * usual_s, num) * raw.wan_rate_bytes_per_s
    raw.edge_reachable, raw.cloud_reachable = rng.random((2, num)) > 1 / 30
    raw.difficulty = _difficulty(cost_model, num, rng) if cost_model.difficulty else None
    return raw


def _difficulty(cost_model: CostModel, num: int, rng: np.random.Generator) -> FloatArray:
    """[predicted exits, N]: errors whose log odds are the average's, and normal with deviation 1.5, half of it shared by all exits."""
    error = np.clip([[exit.error] for exit in cost_model.difficulty], 1e-3, 1 - 1e-3)
    shared, own = rng.normal(0, 1.5 / math.sqrt(2), (1, num)), rng.normal(0, 1.5 / math.sqrt(2), (len(error), num))
    return sigmoid(np.log(error / (1 - error)) + shared + own)


def sample_weights(cost_model: CostModel, num: int, rng: np.random.Generator) -> FloatArray:
    """float64 [TERMS + PRICED, N]: the objective's weights, each scaled log-uniformly by 1/4..4, and prices per second.

    A price is zero in half of the states, else 0.3..30 times the weight of a second of latency, log-uniformly.
    """
    weights = weights_of(cost_model.objective)[:, None] * _log_uniform(rng, 0.25, 4.0, (len(weights_of(cost_model.objective)), num))
    shape = (len(PRICED), num)
    prices = weights[0] * _log_uniform(rng, 0.3, 30.0, shape) * (rng.random(shape) < 0.5)
    return np.concatenate([weights, prices])


def _log_uniform(rng: np.random.Generator, low: float, high: float, shape: int | tuple[int, int]) -> FloatArray:
    return np.exp(rng.uniform(np.log(low), np.log(high), shape))


def _backlog(rng: np.random.Generator, longest_s: float, num: int) -> FloatArray:
    return longest_s * rng.random(num) ** 2 * (rng.random(num) < 0.5)


# ---------------------------------------------------------------- costs there


def _sampled_costs(cost_model: CostModel, samples: int, seed: int) -> Iterator[FloatArray]:
    """Blocks float32 [D, n] of the cost of every decision in sampled states; unreachable ones cost very much."""
    rng = np.random.default_rng(seed)
    raw, weights = sample_states(cost_model, samples, rng), sample_weights(cost_model, samples, rng).astype(np.float32)
    predictor = Predictor(cost_model, np.float32)
    terms = _priced_terms(predictor).astype(np.float32)
    shares, firsts = np.array(cost_model.way_share, np.float32)[:, None], np.unique(cost_model.way_decision, return_index=True)[1]
    step = max(8, _BLOCK // cost_model.num_ways)
    for start in range(0, samples, step):
        block = raw.part(slice(start, start + step))
        factors = np.matmul(terms, weights[:, start : start + step])
        timeline = predictor.run_ways(block)
        cost = np.einsum("cvn,cvn->vn", timeline.charges, factors)
        if timeline.error is not None:
            cost += weights[TERMS.index("error"), start : start + step] * predictor.error_change(timeline)
        if cost_model.num_ways > cost_model.num_decisions:
            cost = np.add.reduceat(cost * shares, firsts, axis=0)
        yield np.where(predictor.allowed(block).T, cost, np.float32(_UNREACHABLE_COST))


def _priced_terms(predictor: Predictor) -> FloatArray:
    """float64 [CHARGES, V, TERMS + PRICED]: see `charge_terms`; what is priced comes behind the terms."""
    model = predictor.cost_model
    priced = np.zeros((len(CHARGES), model.num_ways, len(PRICED)))
    priced[CHARGES.index("one"), :, PRICED.index("device_s")] = model.device_s
    priced[CHARGES.index("sending"), :, PRICED.index("sending")] = 1.0
    priced[CHARGES.index("one"), :, PRICED.index("edge_s")] = model.edge_s
    return np.concatenate([predictor.charge_terms.transpose(1, 0, 2), priced], axis=2)


def _relative_costs(cost_model: CostModel, samples: int, seed: int) -> FloatArray:
    """float32 [D, n]: each decision's cost divided by the best one's, less 1, in `samples` states or as many as are handy."""
    num = min(samples, max(1, _MAX_PAIRS // cost_model.num_decisions))
    relative = np.empty((cost_model.num_decisions, num), np.float32)
    start = 0
    for costs in _sampled_costs(cost_model, num, seed):
        best = np.maximum(costs.min(axis=0), _TINY_COST)
        relative[:, start : start + costs.shape[1]] = costs / best - 1
        start += costs.shape[1]
    return relative


# ---------------------------------------------------------------- choosing


def _cover(relative: FloatArray, always: Sequence[int], limit: int) -> list[int]:
    """Indices, rising: `always`, then greedily what lowers the mean of the chosen ones' minimum most."""
    chosen = list(always) or [int(relative.mean(axis=1).argmin())]
    best = relative[chosen].min(axis=0)
    bounds = [(-np.inf, index) for index in range(len(relative)) if index not in chosen]
    while bounds and len(chosen) < limit:
        index, gain = _best_gain(relative, best, bounds)
        if gain < LEAST_GAIN * relative.shape[1]:
            break
        chosen.append(index)
        np.minimum(best, relative[index], out=best)
    return sorted(chosen)


def _best_gain(relative: FloatArray, best: FloatArray, bounds: list[tuple[float, int]]) -> tuple[int, float]:
    """Pop the decision of largest gain.  `bounds` is a heap of (-gain as last computed, index); gains only shrink.

    Gains are compared to four digits, the first index of equals winning: rounding elsewhere must not choose.
    """
    while True:
        _, index = heapq.heappop(bounds)
        gain = float(f"{np.maximum(best - relative[index], 0).sum(dtype=np.float64):.4g}")
        if not bounds or (-gain, index) <= bounds[0]:
            return index, gain
        heapq.heappush(bounds, (-gain, index))
