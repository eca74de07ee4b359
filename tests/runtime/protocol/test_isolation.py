"""What a loud tenant does to a quiet one, measured on an exact clock: the claims of the tenancy documentation.

Quiet and loud have equal weights, so half the worker each; the quiet one's jobs take 10 ms.  Loud goes from its
share (0.5) to ten times of it (5.0).  The worker is work-conserving, so near its share the quiet one also enjoys
what loud leaves idle; and it cannot be interrupted, so one job of loud's that runs is felt whatever is done.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from runtime.inference.batching import BatchingConfig, affine_batch_s
from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.protocol.tenant_queue import TenantQueue
from tests.runtime.queue_simulation import KEY, Arrival, Fate, busy_fraction, percentile_s, poisson, simulate

SHARE = 0.5
QUIET_S = 0.010


UNTIL_S = {QUIET_S / 5: 6.0, QUIET_S: 30.0, QUIET_S * 5: 60.0}
"""How long to play, for each length of loud's jobs."""
CREDIT_S = TenancyConfig().credit_s

LOUD_S = pytest.mark.parametrize("loud_s", UNTIL_S, ids=["shorter", "equal", "longer"])


@functools.cache
def contend(quiet_load: float, loud_load: float, loud_s: float, credit_s: float = CREDIT_S, quota: bool = False) -> tuple[Fate, ...]:
    """Three times for a while, what becomes of quiet's jobs; their arrivals are the same whatever loud does."""
    limits = {"rate_s_per_s": SHARE, "burst_s": 2 * QUIET_S} if quota else {}
    tenants = (TenantConfig(name="quiet"), TenantConfig(name="loud", **limits))  # type: ignore[arg-type]
    fates: list[Fate] = []
    for seed in range(3):
        arrivals = quiet_alone(quiet_load, loud_s, seed)
        arrivals += poisson("loud", loud_load, loud_s, UNTIL_S[loud_s], np.random.default_rng([seed, 2]))
        part = simulate(TenantQueue(128, TenancyConfig(tenants=tenants, credit_s=credit_s)), arrivals)
        assert busy_fraction(part, UNTIL_S[loud_s]) > 0.99 or loud_load <= SHARE or quota
        fates += [fate for fate in part if fate.arrival.tenant == "quiet"]
    return tuple(fates)


def quiet_alone(load: float, loud_s: float, seed: int) -> list[Arrival]:
    """What the quiet tenant asks for while loud's jobs take `loud_s`."""
    return poisson("quiet", load, QUIET_S, UNTIL_S[loud_s], np.random.default_rng([seed, 1]))


def p95_s(quiet_load: float, loud_load: float, loud_s: float, credit_s: float = CREDIT_S, quota: bool = False) -> float:
    """The quiet tenant's p95 latency."""
    return percentile_s(contend(quiet_load, loud_load, loud_s, credit_s, quota), "quiet", 95)


@pytest.mark.parametrize("quiet_load", [0.15, 0.30, 0.45])
@LOUD_S
def test_ten_times_its_share_moves_another_by_less_than_a_fifth(quiet_load: float, loud_s: float) -> None:
    """At 30 %, 60 % and 90 % of quiet's share, for loud jobs five times shorter, as long, and five times longer."""
    assert p95_s(quiet_load, 10 * SHARE, loud_s) < 1.2 * p95_s(quiet_load, SHARE, loud_s)


@pytest.mark.parametrize("quiet_load", [0.15, 0.30])
@LOUD_S
def test_up_to_60_percent_of_its_share_a_tenant_is_as_if_alone_but_for_one_job(quiet_load: float, loud_s: float) -> None:
    """Compared with nobody else there at all, p95 is later by no more than a tenth and the one job of loud's that may run."""
    assert p95_s(quiet_load, 10 * SHARE, loud_s) <= 1.1 * p95_s(quiet_load, 0.0, loud_s) + loud_s


@LOUD_S
def test_near_its_share_a_tenant_is_as_on_a_half_of_its_own_but_for_one_job(loud_s: float) -> None:
    """At 90 % of its share it is far from being alone on the worker, which nobody promised, but not worse than on half of it.

    There, its jobs take twice as long.
    """
    after_s = p95_s(0.45, 10 * SHARE, loud_s)
    assert after_s > 2 * p95_s(0.45, 0.0, loud_s)
    halved: list[Fate] = []
    for seed in range(3):
        same = [Arrival(at_s=item.at_s, seconds=2 * QUIET_S, tenant="quiet") for item in quiet_alone(0.45, loud_s, seed)]
        halved += simulate(TenantQueue(128, TenancyConfig(tenants=(TenantConfig(name="quiet"),))), same)
    assert after_s <= percentile_s(halved, "quiet", 95) + loud_s


def test_it_is_the_credit_that_does_it() -> None:
    """Without one, bursts go at the pace of the share: at 60 % of it, p95 is three times what it is alone; with it, not a fifth more."""
    loud_s = QUIET_S / 5
    alone_s = p95_s(0.30, 0.0, loud_s)
    assert p95_s(0.30, 10 * SHARE, loud_s, credit_s=0.0) > 3 * alone_s
    assert p95_s(0.30, 10 * SHARE, loud_s) < 1.2 * alone_s


def test_another_s_credit_costs_a_tenant_no_more_than_that() -> None:
    """Beside one within its share that sends half a second of work at once, each job waits for at most the credit more than without."""
    rng, bursts = np.random.default_rng(6), []
    for at_s in np.sort(rng.uniform(0, 40, 32)):
        bursts += [Arrival(at_s=float(at_s), seconds=QUIET_S, tenant="loud") for _ in range(50)]
    arrivals = [*poisson("quiet", 0.30, QUIET_S, 40.0, rng), *bursts]
    worst_s = {}
    for credit_s in (0.0, 0.1):
        tenancy = TenancyConfig(tenants=(TenantConfig(name="quiet"), TenantConfig(name="loud")), credit_s=credit_s)
        worst_s[credit_s] = percentile_s(simulate(TenantQueue(128, tenancy), arrivals), "quiet", 100)
    assert worst_s[0.1] <= worst_s[0.0] + 0.1 + 2 * QUIET_S


def test_quota_holds_the_bound_too() -> None:
    """With loud's quota at its share and a burst of two jobs, what it asks beyond is refused, and the bound holds."""
    assert p95_s(0.30, 10 * SHARE, QUIET_S, quota=True) < 1.2 * p95_s(0.30, SHARE, QUIET_S)


def test_first_come_first_served_has_no_isolation() -> None:
    """The same load through one lane: the quiet tenant is mostly refused, and waits behind a full queue when not."""
    arrivals = poisson("quiet", 0.15, QUIET_S, 20.0, np.random.default_rng(1))
    arrivals += poisson("loud", 10 * SHARE, QUIET_S, 20.0, np.random.default_rng(2))
    arrivals.sort(key=lambda arrival: arrival.at_s)
    shared = simulate(TenantQueue(128), [Arrival(at_s=arrival.at_s, seconds=arrival.seconds) for arrival in arrivals])
    quiet = [fate for fate, arrival in zip(shared, arrivals, strict=True) if arrival.tenant == "quiet"]
    assert np.mean([fate.refused is not None for fate in quiet]) > 0.5
    fair = contend(0.15, 10 * SHARE, QUIET_S)
    assert np.nanpercentile([fate.latency_s for fate in quiet], 95) > 10 * percentile_s(fair, "quiet", 95)
    assert all(fate.refused is None for fate in fair)


def test_batching_raises_throughput_within_its_bound() -> None:
    """Two loud tenants at 1.8 times the worker, 40 % of a job's time fixed: batches of four serve 1.3 times as much or more.

    A third tenant's p95 moves by no more than the stretch that was allowed, for the batch that runs and one that is led
    by the other.
    """
    stretch_s = 2 * QUIET_S
    config = TenancyConfig(tenants=tuple(TenantConfig(name=name, max_waiting=64) for name in ("a", "b", "quiet")))
    arrivals = [
        *poisson("a", 0.9, QUIET_S, 20.0, np.random.default_rng(3), key=KEY),
        *poisson("b", 0.9, QUIET_S, 20.0, np.random.default_rng(4), key=KEY),
        *poisson("quiet", 0.1, QUIET_S, 20.0, np.random.default_rng(5)),
    ]

    def through(batching: BatchingConfig) -> list[Fate]:
        queue = TenantQueue(192, config, batching, lambda key, rows: affine_batch_s(QUIET_S, 0.4, rows))
        return simulate(queue, arrivals, lambda rows: affine_batch_s(QUIET_S, 0.4, len(rows)))

    alone, together = through(BatchingConfig()), through(BatchingConfig(max_batch=4, max_stretch_s=stretch_s))
    served = [sum(fate.ended_at_s < 20.0 for fate in fates) for fates in (alone, together)]
    assert served[1] > 1.3 * served[0]
    assert percentile_s(together, "quiet", 95) < percentile_s(alone, "quiet", 95) + 2 * stretch_s
