"""Start-time fair queueing with a credit: shares, turns and bounds, against hand-computed orders and the theorems."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.protocol.fair_queue import FairQueue, Lane, Waiting
from runtime.protocol.tenant_queue import TenantQueue
from tests.runtime.queue_simulation import Arrival, Fate, run, simulate

SECONDS = st.integers(1, 64).map(lambda sixteenths: sixteenths / 16)
WEIGHTS = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])
THREE = st.tuples(WEIGHTS, WEIGHTS, WEIGHTS).map(lambda weights: dict(zip("abc", weights, strict=True)))
CREDITS = st.sampled_from([0.0, 0.5, 2.0, 20.0])
SOME = st.lists(
    st.builds(
        Arrival,
        at_s=st.integers(0, 320).map(lambda sixteenths: sixteenths / 16),
        seconds=SECONDS,
        tenant=st.sampled_from("abc"),
    ),
    max_size=40,
)


def tenancy(weights: dict[str, float], credit_s: float = 0.0, max_waiting: int = 1000) -> TenancyConfig:
    """Tenants of these weights whose bounds do not matter."""
    tenants = tuple(TenantConfig(name=name, weight=weight, max_waiting=max_waiting) for name, weight in weights.items())
    return TenancyConfig(tenants=tenants, credit_s=credit_s)


def backlogged(jobs: dict[str, list[float]]) -> list[Arrival]:
    """All of these jobs arrive at time 0."""
    return [Arrival(at_s=0.0, seconds=seconds, tenant=name) for name, lengths in jobs.items() for seconds in lengths]


def order_of(fates: list[Fate]) -> str:
    """Tenants in order of start."""
    return "".join(fate.arrival.tenant for fate in sorted(fates, key=lambda fate: fate.started_at_s))


def test_equal_weights_alternate() -> None:
    """Two tenants with jobs of one length take turns."""
    fates = simulate(TenantQueue(1000, tenancy({"a": 1, "b": 1})), backlogged({"a": [1] * 4, "b": [1] * 4}))
    assert order_of(fates) == "abababab"


def test_weights_are_shares() -> None:
    """By hand: a (weight 2) has tags 0, .5, 1, 1.5, 2, 2.5, b (weight 1) 0, 1, 2; ties go to whoever came first, which is a."""
    fates = simulate(TenantQueue(1000, tenancy({"a": 2, "b": 1})), backlogged({"a": [1] * 6, "b": [1] * 3}))
    assert order_of(fates) == "abaabaaba"


def test_long_jobs_pay_by_the_second() -> None:
    """One job of 3 s counts as three of 1 s: a has tags 0, 3; b 0, 1, 2, 3."""
    fates = simulate(TenantQueue(1000, tenancy({"a": 1, "b": 1})), backlogged({"a": [3, 3], "b": [1] * 4}))
    assert order_of(fates) == "abbbab"


@pytest.mark.parametrize(
    ("credit_s", "order"), [(0.0, "aaaaaababababaaa"), (1.0, "aaaaaabbababaaaa"), (2.0, "aaaaaabbbabaaaaa"), (99.0, "aaaaaabbbbaaaaaa")]
)
def test_a_tenant_catches_up_on_its_credit(credit_s: float, order: str) -> None:
    """Who comes back after a pause has credit_s of work done before it shares, and no more than the 5 s it is behind.

    By hand: when b comes, virtual time is 5, a's tag 6 and b's 5 less the credit, but not less than 0.
    """
    arrivals = [Arrival(at_s=0.0, seconds=1.0, tenant="a") for _ in range(12)]
    arrivals += [Arrival(at_s=5.5, seconds=1.0, tenant="b") for _ in range(4)]
    assert order_of(simulate(TenantQueue(1000, tenancy({"a": 1, "b": 1}, credit_s)), arrivals)) == order


@given(st.lists(SECONDS, min_size=1, max_size=40), st.lists(SECONDS, min_size=1, max_size=40), WEIGHTS, WEIGHTS)
def test_shares_are_within_one_job_of_the_weights(a: list[float], b: list[float], weight_a: float, weight_b: float) -> None:
    """While both wait, served seconds per weight differ by at most one longest job each (Goyal et al., theorem 1)."""
    fates = simulate(TenantQueue(1000, tenancy({"a": weight_a, "b": weight_b})), backlogged({"a": a, "b": b}))
    bound = max(a) / weight_a + max(b) / weight_b
    served = {"a": 0.0, "b": 0.0}
    left = {"a": len(a), "b": len(b)}
    for fate in sorted(fates, key=lambda fate: fate.started_at_s):
        name = fate.arrival.tenant
        served[name] += fate.arrival.seconds
        left[name] -= 1
        if not all(left.values()):
            break
        assert abs(served["a"] / weight_a - served["b"] / weight_b) <= bound + 1e-9


@given(st.data(), st.lists(WEIGHTS, min_size=2, max_size=5), CREDITS)
def test_newcomer_waits_for_at_most_one_job_of_each_other(data: st.DataObject, weights: list[float], credit_s: float) -> None:
    """A tenant that was idle starts within the others' longest jobs, however much they have waiting, and whatever comes later.

    Of a lighter one it also waits for what that one's credit is worth more than its own.
    """
    names = [f"t{index}" for index in range(len(weights))]
    jobs = {name: data.draw(st.lists(SECONDS, min_size=1, max_size=12), label=name) for name in names[1:]}
    arrivals = backlogged(jobs)
    total_s = sum(arrival.seconds for arrival in arrivals)
    at_s = data.draw(st.floats(0, total_s), label="arrives")
    arrivals.append(Arrival(at_s=at_s, seconds=1.0, tenant=names[0]))
    arrivals += [Arrival(at_s=at_s + 1 / 64, seconds=max(jobs[name]), tenant=name) for name in names[1:]]
    fates = simulate(TenantQueue(1000, tenancy(dict(zip(names, weights, strict=True)), credit_s)), arrivals)
    (own,) = [fate for fate in fates if fate.arrival.tenant == names[0]]
    lighter_s = sum(credit_s * max(0.0, 1 - weight / weights[0]) for weight in weights[1:])
    assert own.wait_s <= sum(max(lengths) for lengths in jobs.values()) + lighter_s + 1e-9


def waiting_periods(fates: list[Fate], tenant: str) -> list[tuple[float, float]]:
    """Longest intervals in which some job of the tenant's waits all the time."""
    periods: list[tuple[float, float]] = []
    for fate in fates:
        if fate.arrival.tenant == tenant and fate.started_at_s > fate.arrival.at_s:
            if periods and fate.arrival.at_s < periods[-1][1]:
                periods[-1] = (periods[-1][0], fate.started_at_s)
            else:
                periods.append((fate.arrival.at_s, fate.started_at_s))
    return periods


def longest(fates: list[Fate]) -> dict[str, float]:
    """Seconds of each tenant's longest job."""
    return {name: max((fate.arrival.seconds for fate in fates if fate.arrival.tenant == name), default=0.0) for name in "abc"}


BURSTS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from("bc"), st.integers(1, 12)), max_size=8).map(
    lambda bursts: [Arrival(at_s=float(at_s), seconds=0.5, tenant=name) for at_s, name, number in bursts for _ in range(number)]
)


@given(st.one_of(SOME, BURSTS.map(lambda bursts: backlogged({"a": [0.5] * 80}) + bursts)), THREE, CREDITS)
def test_credit_is_all_that_a_tenant_gets_beyond_its_share(jobs: list[Arrival], weights: dict[str, float], credit_s: float) -> None:
    """While a tenant waits throughout, another that comes and goes gets the credit beyond the plain bound, once, over any part of it."""
    fates = simulate(TenantQueue(1000, tenancy(weights, credit_s)), jobs)
    started, longest_s = sorted(fates, key=lambda fate: fate.started_at_s), longest(fates)
    for patient, weight in weights.items():
        for from_s, until_s in waiting_periods(fates, patient):
            inside = [fate for fate in started if from_s <= fate.started_at_s <= until_s]
            for other in weights.keys() - {patient}:
                bound = (longest_s[other] + credit_s) / weights[other] + longest_s[patient] / weight
                assert worst_gap(inside, {other: weights[other], patient: weight}) <= bound + 1e-9


def worst_gap(starts: list[Fate], weights: dict[str, float]) -> float:
    """The most that the first tenant got beyond the second, in seconds per weight, over any run of these starts."""
    other = next(iter(weights))
    worst = gap = 0.0
    for fate in starts:
        name = fate.arrival.tenant
        if name in weights:
            gap = max(0.0, gap) + (fate.arrival.seconds / weights[name]) * (1 if name == other else -1)
            worst = max(worst, gap)
    return worst


@given(SOME, THREE, CREDITS)
def test_no_lane_starves(jobs: list[Arrival], weights: dict[str, float], credit_s: float) -> None:
    """The first job of a lane starts once its own last one is done and each other tenant has had a bounded time."""
    fates = simulate(TenantQueue(1000, tenancy(weights, credit_s)), jobs)
    longest_s = longest(fates)
    for name, weight in weights.items():
        first_at_s = 0.0
        others_s = sum(
            credit_s + longest_s[other] + longest_s[name] * weights[other] / weight for other in weights.keys() - {name} if longest_s[other]
        )
        for fate in (fate for fate in fates if fate.arrival.tenant == name):
            assert fate.started_at_s - max(first_at_s, fate.arrival.at_s) <= others_s + 1e-9
            first_at_s = fate.ended_at_s


def waiting(order: int, seconds: float) -> Waiting:
    """A job with nothing to it but its length."""
    return Waiting(job=run(order), expected_s=seconds, offered_at_s=0.0, expires_at_s=math.inf, due_at_s=math.inf, key=None, order=order)


def states(fair: FairQueue, steps: list[tuple[str, float] | None]) -> Iterator[FairQueue]:
    """What becomes of a queue when jobs are pushed, or (None) the next is started, rests included."""
    for order, step in enumerate(steps):
        if step is not None:
            if not fair.num_waiting:
                fair.rest()
            fair.push(step[0], waiting(order, step[1]))
        elif (name := fair.turn()) is not None:
            fair.begin(name)
            fair.charge(name, fair.pop(name).expected_s)
        yield fair


@given(st.lists(st.one_of(st.none(), st.tuples(st.sampled_from("abc"), SECONDS)), max_size=80), THREE, CREDITS)
def test_tags_stay_within_credit_and_one_job_of_virtual_time(
    steps: list[tuple[str, float] | None], weights: dict[str, float], credit_s: float
) -> None:
    """Virtual time never falls; whoever waits is behind it by the credit at most, and nobody is ahead by more than a job."""
    longest_s, virtual_s = max([step[1] for step in steps if step is not None], default=0.0), 0.0
    for fair in states(FairQueue({name: Lane(weight, 100) for name, weight in weights.items()}, credit_s), steps):
        assert fair.virtual_s >= virtual_s
        virtual_s = fair.virtual_s
        for lane in fair.lanes.values():
            assert lane.tag_s <= virtual_s + longest_s / lane.weight + 1e-9
            assert not lane.jobs or lane.tag_s >= virtual_s - credit_s / lane.weight - 1e-9


@given(SOME, THREE, CREDITS)
def test_worker_never_idles_while_jobs_wait(arrivals: list[Arrival], weights: dict[str, float], credit_s: float) -> None:
    """Work conservation: the times at which the worker ends are those of one queue, first come first served."""
    fair = simulate(TenantQueue(1000, tenancy(weights, credit_s)), arrivals)
    fifo = simulate(TenantQueue(1000), [Arrival(at_s=arrival.at_s, seconds=arrival.seconds) for arrival in arrivals])
    assert abs(max((fate.ended_at_s for fate in fair), default=0) - max((fate.ended_at_s for fate in fifo), default=0)) < 1e-9
    assert all(fate.ended_at_s > 0 for fate in fair)


@given(st.lists(st.tuples(SECONDS, st.sampled_from("abc")), max_size=30), THREE, CREDITS, st.data())
def test_expected_wait_is_exact_when_nobody_else_comes(
    jobs: list[tuple[float, str]], weights: dict[str, float], credit_s: float, data: st.DataObject
) -> None:
    """A job starts after exactly the wait that was expected of it, some time into a busy period of several tenants."""
    queue = TenantQueue(1000, tenancy(weights, credit_s))
    for number, (seconds, name) in enumerate(jobs):
        queue.offer(run(number), seconds, 1e9, at_s=0.0, tenant=name)
    at_s, seconds_of = 0.0, dict(enumerate(seconds for seconds, _ in jobs))
    for _ in range(data.draw(st.integers(0, len(jobs)), label="done before")):
        (job,), _ = queue.start_next(at_s)
        at_s += seconds_of[job.request_id]
        queue.finished()
    queue.start_next(at_s)
    name = data.draw(st.sampled_from("abc"), label="tenant")
    offered_at_s, expected_s = at_s, queue.expected_wait_s(name, at_s)
    queue.offer(run(1000), 1.0, 1e9, at_s=at_s, tenant=name)
    running = max(0.0, queue.backlog_s(at_s) - sum(backlog.backlog_s for backlog in queue.backlogs()))
    if running == 0.0 and queue.num_waiting == 1:
        assert expected_s == 0.0
        return
    at_s += running
    queue.finished()
    while (started := queue.start_next(at_s)[0])[0].request_id != 1000:
        at_s += seconds_of[started[0].request_id]
        queue.finished()
    assert abs(at_s - offered_at_s - expected_s) < 1e-9


def test_expected_wait_counts_a_credit() -> None:
    """By hand: at 5.5 s a's job 5 runs, virtual time is 5, b's two jobs have tags 3 and 4; c's would have 3, after b's first."""
    queue = TenantQueue(1000, tenancy({"a": 1, "b": 1, "c": 1}, 2.0))
    for number in range(9):
        queue.offer(run(number), 1.0, 1e9, at_s=0.0, tenant="a")
    for at_s in range(6):
        queue.finished()
        queue.start_next(float(at_s))
    for number in (10, 11):
        queue.offer(run(number), 1.0, 1e9, at_s=5.5, tenant="b")
    assert queue.expected_wait_s("c", 5.5) == 0.5 + 1.0


@pytest.mark.parametrize(("credit_s", "first"), [(0.0, 1), (0.5, 2)])
def test_debts_do_not_outlive_a_busy_period(credit_s: float, first: int) -> None:
    """After the worker rested, who had 50 s more is behind by the other's credit only: by hand, b's 1 s goes first, then a's."""
    queue = TenantQueue(10, tenancy({"a": 1, "b": 1}, credit_s))
    queue.offer(run(0), 50.0, 1e9, at_s=0.0, tenant="a")
    queue.start_next(0.0)
    queue.finished()
    for number, name in enumerate("abb"):
        queue.offer(run(number + 1), 1.0, 1e9, at_s=60.0, tenant=name)
    order = []
    for _ in range(2):
        order += [job.request_id for job in queue.start_next(60.0)[0]]
        queue.finished()
    assert order == [first, 3 - first]
