"""What a loud tenant does to a quiet one, measured on an exact clock: the claims of the tenancy documentation.

Quiet and loud have equal weights, so half the worker each; the quiet one's jobs take 10 ms.  Loud goes from its
share (0.5) to ten times of it (5.0).  The worker is work-conserving, so with loud at its share the quiet one also
enjoys what loud leaves idle; that is what it loses, and all that it loses.
"""

from __future__ import annotations

import numpy as np
import pytest

from runtime.inference.batching import BatchingConfig, affine_batch_s
from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.protocol.tenant_queue import TenantQueue
from tests.runtime.queue_simulation import KEY, Arrival, Fate, busy_fraction, percentile_s, poisson, simulate

SHARE = 0.5
QUIET_S = 0.010


def contend(quiet_load: float, loud_load: float, loud_s: float, until_s: float, **loud_quota: float) -> list[Fate]:
    """Both tenants, three times for a while; the quiet one's arrivals are the same for every loud one."""
    tenants = (TenantConfig(name="quiet"), TenantConfig(name="loud", **loud_quota))  # type: ignore[arg-type]
    fates = []
    for seed in range(3):
        arrivals = poisson("quiet", quiet_load, QUIET_S, until_s, np.random.default_rng([seed, 1]))
        arrivals += poisson("loud", loud_load, loud_s, until_s, np.random.default_rng([seed, 2]))
        part = simulate(TenantQueue(128, TenancyConfig(tenants=tenants)), arrivals)
        assert busy_fraction(part, until_s) > 0.99 or loud_load <= SHARE or loud_quota
        fates += part
    return fates


def ratio(before: list[Fate], after: list[Fate]) -> float:
    """How much the quiet tenant's p95 latency moved."""
    return percentile_s(after, "quiet", 95) / percentile_s(before, "quiet", 95)


@pytest.mark.parametrize("quiet_load", [0.15, 0.30])
@pytest.mark.parametrize(("loud_s", "until_s"), [(QUIET_S / 5, 10.0), (QUIET_S * 5, 60.0)])
def test_ten_times_its_share_moves_another_by_less_than_a_fifth(quiet_load: float, loud_s: float, until_s: float) -> None:
    """Fair queueing alone is enough at 30 % and 60 % of quiet's share, for loud jobs five times shorter or longer."""
    assert ratio(contend(quiet_load, SHARE, loud_s, until_s), contend(quiet_load, 10 * SHARE, loud_s, until_s)) < 1.2


@pytest.mark.parametrize("quiet_load", [0.15, 0.30])
def test_quota_holds_the_bound_for_jobs_of_equal_length(quiet_load: float) -> None:
    """With loud's quota at its share and a burst of two jobs, the bound holds for equal lengths too."""
    quota = {"rate_s_per_s": SHARE, "burst_s": 2 * QUIET_S}
    assert ratio(contend(quiet_load, SHARE, QUIET_S, 40.0), contend(quiet_load, 10 * SHARE, QUIET_S, 40.0, **quota)) < 1.2


def test_near_its_own_share_a_tenant_loses_what_it_borrowed() -> None:
    """Where the bound ends: at 90 % of its share, quiet loses by more than a fifth what loud had left idle.

    It is no worse off than on half a worker of its own, whose jobs take twice as long, but for one job of loud's.
    """
    after = contend(0.45, 10 * SHARE, QUIET_S, 60.0)
    assert ratio(contend(0.45, SHARE, QUIET_S, 60.0), after) > 1.2
    alone = []
    for seed in range(3):
        same = poisson("quiet", 0.45, QUIET_S, 60.0, np.random.default_rng([seed, 1]))
        tenancy = TenancyConfig(tenants=(TenantConfig(name="quiet"),))
        alone += simulate(TenantQueue(128, tenancy), [Arrival(at_s=arrival.at_s, seconds=2 * QUIET_S, tenant="quiet") for arrival in same])
    assert percentile_s(after, "quiet", 95) <= percentile_s(alone, "quiet", 95) + QUIET_S


def test_first_come_first_served_has_no_isolation() -> None:
    """The same load through one lane: the quiet tenant is mostly refused, and waits behind a full queue when not."""
    arrivals = poisson("quiet", 0.15, QUIET_S, 20.0, np.random.default_rng(1))
    arrivals += poisson("loud", 10 * SHARE, QUIET_S, 20.0, np.random.default_rng(2))
    arrivals.sort(key=lambda arrival: arrival.at_s)
    shared = simulate(TenantQueue(128), [Arrival(at_s=arrival.at_s, seconds=arrival.seconds) for arrival in arrivals])
    quiet = [fate for fate, arrival in zip(shared, arrivals, strict=True) if arrival.tenant == "quiet"]
    assert np.mean([fate.refused is not None for fate in quiet]) > 0.5
    fair = contend(0.15, 10 * SHARE, QUIET_S, 20.0)
    assert np.nanpercentile([fate.latency_s for fate in quiet], 95) > 10 * percentile_s(fair, "quiet", 95)
    assert all(fate.refused is None for fate in fair if fate.arrival.tenant == "quiet")


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
