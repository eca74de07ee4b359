"""Tenants' entitlements: what a configuration may say, and what a token bucket lets pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.config import decode_config
from runtime.errors import InvalidConfig
from runtime.inference.tenancy import DEFAULT_TENANT, Quota, Refusal, TenancyConfig, TenantConfig, TokenBucket


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 129},
        {"name": "a", "weight": 0.0},
        {"name": "a", "weight": math.inf},
        {"name": "a", "weight": math.nan},
        {"name": "a", "rate_s_per_s": 0.5},
        {"name": "a", "burst_s": 0.5},
        {"name": "a", "rate_requests_per_s": 1.0},
        {"name": "a", "rate_requests_per_s": 1.0, "burst_requests": 0.5},
        {"name": "a", "rate_s_per_s": -1.0, "burst_s": 1.0},
        {"name": "a", "deadline_s": 0.0},
        {"name": "a", "max_waiting": 0},
        {"name": "a", "wieght": 2.0},
    ],
)
def test_impossible_tenants_are_refused(wrong: dict[str, Any]) -> None:
    """Each field is checked when the configuration is read."""
    with pytest.raises(InvalidConfig):
        decode_config(wrong, TenantConfig, "test")


@pytest.mark.parametrize("names", [(), ("a", "a")])
def test_tenants_are_some_and_differ(names: tuple[str, ...]) -> None:
    """A node has a tenant or more, and no name twice."""
    with pytest.raises(InvalidConfig, match="each name once"):
        TenancyConfig(tenants=tuple(TenantConfig(name=name) for name in names))


@pytest.mark.parametrize("credit_s", [-0.1, math.inf, math.nan])
def test_credit_is_bounded(credit_s: float) -> None:
    """Tenants cannot be let catch up on any amount, nor on less than none."""
    with pytest.raises(InvalidConfig, match="credit_s"):
        decode_config({"credit_s": credit_s}, TenancyConfig, "test")


def test_default_is_one_tenant_with_all_the_room() -> None:
    """Nothing configured: one tenant, no limit but the node's."""
    assert TenancyConfig().bounds(256) == {DEFAULT_TENANT: 256}


def test_room_follows_weights_unless_it_is_given() -> None:
    """10 places among weights 3, 1 and 1, of which the last asks for 7, and one so light that its share is none."""
    tenants = (
        TenantConfig(name="a", weight=3),
        TenantConfig(name="b"),
        TenantConfig(name="c", max_waiting=7),
        TenantConfig(name="d", weight=1e-6),
    )
    assert TenancyConfig(tenants=tenants).bounds(10) == {"a": 5, "b": 1, "c": 7, "d": 1}


def test_bucket_by_hand() -> None:
    """Rate 2, burst 3: full at first; 3 now, 1 after half a second, then 2 more only a second later; 4 never."""
    bucket = TokenBucket(2.0, 3.0)
    assert bucket.wait_s(3.0, 10.0) == 0.0
    bucket.take(3.0, 10.0)
    assert bucket.wait_s(1.0, 10.0) == 0.5
    bucket.take(1.0, 10.5)
    assert bucket.wait_s(2.0, 10.5) == 1.0
    assert bucket.wait_s(2.0, 11.5) == 0.0
    assert bucket.wait_s(4.0, 99.0) == math.inf


@given(
    st.floats(0.1, 10),
    st.floats(1, 10),
    st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 12)), max_size=60),
)
def test_bucket_never_passes_more_than_burst_and_rate(rate: float, burst: float, offers: list[tuple[float, float]]) -> None:
    """Over every interval between two takings, at most burst + rate * its length passes; and the awaited does pass."""
    bucket = TokenBucket(rate, burst)
    at_s, taken = 0.0, []
    for gap_s, amount in offers:
        at_s += gap_s
        wait_s = bucket.wait_s(amount, at_s)
        assert (wait_s == math.inf) == (amount > burst)
        if wait_s == 0.0:
            bucket.take(amount, at_s)
            taken.append((at_s, amount))
        elif wait_s < math.inf:
            assert bucket.wait_s(amount, at_s + wait_s * (1 + 1e-9)) == 0.0
    for first, (start_s, _) in enumerate(taken):
        passed = 0.0
        for end_s, amount in taken[first:]:
            passed += amount
            assert passed <= burst + rate * (end_s - start_s) + 1e-6


def test_quota_asks_both_buckets() -> None:
    """One request per second and half a second of compute per second: the slower of the two decides."""
    quota = Quota(TenantConfig(name="a", rate_s_per_s=0.5, burst_s=1.0, rate_requests_per_s=1.0, burst_requests=1.0))
    quota.take(1.0, 0.0)
    assert quota.wait_s(0.1, 0.0) == 1.0
    assert quota.wait_s(1.0, 0.0) == 2.0
    assert Quota(TenantConfig(name="b")).wait_s(1e9, 0.0) == 0.0


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("unknown_tenant", "bad_input"),
        ("tenant_full", "overload"),
        ("queue_full", "overload"),
        ("rate", "overload"),
        ("deadline", "deadline"),
    ],
)
def test_refusals_have_a_status(reason: Any, status: str) -> None:
    """Each reason is told to peers as one of the statuses they know."""
    assert Refusal(reason=reason, message="").status == status
