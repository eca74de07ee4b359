"""Start-time fair queueing: shares, turns and bounds, against hand-computed orders and the theorems."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.protocol.tenant_queue import TenantQueue
from tests.runtime.queue_simulation import Arrival, Fate, run, simulate

SECONDS = st.integers(1, 64).map(lambda sixteenths: sixteenths / 16)
WEIGHTS = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])


def tenancy(weights: dict[str, float], max_waiting: int = 1000) -> TenancyConfig:
    """Tenants of these weights whose bounds do not matter."""
    return TenancyConfig(tenants=tuple(TenantConfig(name=name, weight=weight, max_waiting=max_waiting) for name, weight in weights.items()))


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


def test_idle_tenant_saves_no_credit() -> None:
    """Who comes back after a pause shares from then on; what it did not use is gone."""
    arrivals = [Arrival(at_s=0.0, seconds=1.0, tenant="a") for _ in range(12)]
    arrivals += [Arrival(at_s=5.5, seconds=1.0, tenant="b") for _ in range(4)]
    assert order_of(simulate(TenantQueue(1000, tenancy({"a": 1, "b": 1})), arrivals)) == "aaaaaababababaaa"


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


@given(st.data(), st.lists(WEIGHTS, min_size=2, max_size=5))
def test_newcomer_waits_for_at_most_one_job_of_each_other(data: st.DataObject, weights: list[float]) -> None:
    """A tenant that was idle starts within the others' longest jobs, however much they have waiting or weigh, and whatever comes later."""
    names = [f"t{index}" for index in range(len(weights))]
    jobs = {name: data.draw(st.lists(SECONDS, min_size=1, max_size=12), label=name) for name in names[1:]}
    arrivals = backlogged(jobs)
    total_s = sum(arrival.seconds for arrival in arrivals)
    at_s = data.draw(st.floats(0, total_s), label="arrives")
    arrivals.append(Arrival(at_s=at_s, seconds=1.0, tenant=names[0]))
    arrivals += [Arrival(at_s=at_s + 1 / 64, seconds=max(jobs[name]), tenant=name) for name in names[1:]]
    fates = simulate(TenantQueue(1000, tenancy(dict(zip(names, weights, strict=True)))), arrivals)
    (own,) = [fate for fate in fates if fate.arrival.tenant == names[0]]
    assert own.wait_s <= sum(max(lengths) for lengths in jobs.values()) + 1e-9


@given(st.lists(st.tuples(st.floats(0, 20), SECONDS, st.sampled_from("abc")), max_size=40), st.tuples(WEIGHTS, WEIGHTS, WEIGHTS))
def test_worker_never_idles_while_jobs_wait(jobs: list[tuple[float, float, str]], weights: tuple[float, float, float]) -> None:
    """Work conservation: the times at which the worker ends are those of one queue, first come first served."""
    arrivals = [Arrival(at_s=at_s, seconds=seconds, tenant=name) for at_s, seconds, name in jobs]
    fair = simulate(TenantQueue(1000, tenancy(dict(zip("abc", weights, strict=True)))), arrivals)
    fifo = simulate(TenantQueue(1000), [Arrival(at_s=arrival.at_s, seconds=arrival.seconds) for arrival in arrivals])
    assert abs(max((fate.ended_at_s for fate in fair), default=0) - max((fate.ended_at_s for fate in fifo), default=0)) < 1e-9
    assert all(fate.ended_at_s > 0 for fate in fair)


@given(st.lists(st.tuples(SECONDS, st.sampled_from("abc")), max_size=30), st.tuples(WEIGHTS, WEIGHTS, WEIGHTS), st.data())
def test_expected_wait_is_exact_when_nobody_else_comes(
    jobs: list[tuple[float, str]], weights: tuple[float, float, float], data: st.DataObject
) -> None:
    """A job starts after exactly the wait that was expected of it, some time into a busy period of several tenants."""
    queue = TenantQueue(1000, tenancy(dict(zip("abc", weights, strict=True))))
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


def test_tags_do_not_outlive_a_busy_period() -> None:
    """After the worker rested, the last busy period is forgotten: who had more in it is not behind."""
    queue = TenantQueue(10, tenancy({"a": 1, "b": 1}))
    queue.offer(run(0), 50.0, 1e9, at_s=0.0, tenant="a")
    queue.start_next(0.0)
    queue.finished()
    for number, name in enumerate("ab"):
        queue.offer(run(number + 1), 1.0, 1e9, at_s=60.0, tenant=name)
    assert [job.request_id for job in queue.start_next(60.0)[0]] == [1]
