"""Tenants of a node: whose work counts how much, how much each may ask for, and the typed words of a refusal.

What a tenant is promised has three parts, each with its own mechanism:

    a share of the worker     weight             runtime/protocol/fair_queue.py
    a bound on what it asks   rate and burst     TokenBucket, here
    an answer in time         deadline_s         admission, runtime/protocol/tenant_queue.py
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from runtime.errors import InvalidConfig
from runtime.messages import MAX_NAME_CHARS, Status

DEFAULT_TENANT = "default"

_SLACK = 1e-9
"""Share of an amount by which rounding may leave a bucket short after it was awaited."""


def _positive(config: msgspec.Struct, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise InvalidConfig(f"tenant {getattr(config, 'name', '')!r}: {name} must be finite and > 0, got {value}")


class TenantConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one tenant of a node is entitled to.  The defaults limit nothing."""

    name: str
    weight: float = 1.0
    """Its share of the worker is weight / sum of the weights of those who have work waiting."""
    rate_s_per_s: float | None = None
    """Expected compute seconds it may ask for per second, in the long run. None: any."""
    burst_s: float | None = None
    """Compute seconds it may ask for at once; needed with rate_s_per_s.  No job of more than this ever passes."""
    rate_requests_per_s: float | None = None
    """Requests it may send per second, in the long run. None: any."""
    burst_requests: float | None = None
    """Requests it may send at once; needed with rate_requests_per_s."""
    deadline_s: float | None = None
    """With admission on: refuse what would take longer than this from here on, however long its own deadline is."""
    max_waiting: int | None = None
    """Its jobs that may wait. None: the share of the node's bound that its weight gives it, at least 1."""

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME_CHARS:
            raise InvalidConfig(f"a tenant's name has 1..{MAX_NAME_CHARS} characters, got {self.name!r}")
        _positive(self, "weight", "rate_s_per_s", "burst_s", "rate_requests_per_s", "burst_requests", "deadline_s")
        for rate, burst in (("rate_s_per_s", "burst_s"), ("rate_requests_per_s", "burst_requests")):
            if (getattr(self, rate) is None) != (getattr(self, burst) is None):
                raise InvalidConfig(f"tenant {self.name!r}: {rate} and {burst} come together, got only one of them")
        if self.burst_requests is not None and self.burst_requests < 1:
            raise InvalidConfig(f"tenant {self.name!r}: burst_requests must be >= 1, or nothing would ever pass, got {self.burst_requests}")
        if self.max_waiting is not None and self.max_waiting < 1:
            raise InvalidConfig(f"tenant {self.name!r}: max_waiting must be >= 1, got {self.max_waiting}")


class TenancyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tenants of a node.  The default is one tenant who has it all, first come first served."""

    tenants: tuple[TenantConfig, ...] = (TenantConfig(name=DEFAULT_TENANT),)
    """Work that names no tenant belongs to the first; where there is but one, all work is its."""
    admission: bool = False
    """Refuse at once what is not expected to meet its deadline, in place of letting it expire."""
    credit_s: float = 0.2
    """Seconds of the worker that a tenant which used less than its share may catch up on when it has work again; 0: none.

    In exchange each other tenant may have to wait for as much, once (runtime/protocol/fair_queue.py).  The default is 20
    jobs of 10 ms, and simulated with those.  What it brings: when another goes from its share to ten times of it, p95 of a
    tenant at 90 % of its share is 1.7 times as long without, 1.4 times with 0.05 s, not longer with 0.2 s.  What it costs:
    beside one that sends 0.5 s of work at once, p95 of a tenant at 60 % of its share is 60 ms without, 52 with 0.1 s, 112
    with 0.2 s, 192 with 0.5 s.
    """

    def __post_init__(self) -> None:
        if not 0 <= self.credit_s < math.inf:
            raise InvalidConfig(f"credit_s must be finite and >= 0 (0: tenants catch up on nothing), got {self.credit_s}")
        names = [tenant.name for tenant in self.tenants]
        if not names or len(set(names)) != len(names):
            raise InvalidConfig(f"a node needs one tenant or more, each name once, got {names}")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tenants, in order."""
        return tuple(tenant.name for tenant in self.tenants)

    def lane(self, tenant: str) -> str:
        """Whose lane work of this tenant waits in; may be one that does not exist, which is refused."""
        return tenant if len(self.tenants) > 1 and tenant else self.tenants[0].name

    def bounds(self, max_waiting: int) -> dict[str, int]:
        """Jobs of each tenant that may wait on a node where `max_waiting` may in all."""
        total = math.fsum(tenant.weight for tenant in self.tenants)
        shares = {tenant.name: max(1, math.floor(max_waiting * (tenant.weight / total))) for tenant in self.tenants}
        return {tenant.name: min(tenant.max_waiting or shares[tenant.name], max_waiting) for tenant in self.tenants}


ONE_TENANT = TenancyConfig()


RefusalReason = Literal["unknown_tenant", "tenant_full", "queue_full", "rate", "deadline"]

_STATUS: dict[RefusalReason, Status] = {
    "unknown_tenant": "bad_input",
    "tenant_full": "overload",
    "queue_full": "overload",
    "rate": "overload",
    "deadline": "deadline",
}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job was not accepted."""

    reason: RefusalReason
    message: str
    """For people."""
    retry_after_s: float = 0.0
    """When the same job could pass: known for `rate` only (infinite if never), else 0."""

    @property
    def status(self) -> Status:
        """What to tell whoever asked."""
        return _STATUS[self.reason]


class TokenBucket:
    """Lets `rate` units per second pass in the long run and `burst` at once; full at first.

    In any interval of T seconds at most burst + rate * T pass.  Source: RFC 2215, the TOKEN_BUCKET_TSPEC (r, b).
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._filled_at_s = burst, -math.inf

    def wait_s(self, amount: float, at_s: float) -> float:
        """Seconds until `amount` could be taken if nobody takes anything before; 0 now, infinite never."""
        if amount > self._burst:
            return math.inf
        missing = amount - self._level_at(at_s)
        return 0.0 if missing <= _SLACK * amount else missing / self._rate

    def take(self, amount: float, at_s: float) -> None:
        """Take what `wait_s` says is there."""
        self._level, self._filled_at_s = max(0.0, self._level_at(at_s) - amount), max(at_s, self._filled_at_s)

    def _level_at(self, at_s: float) -> float:
        gone_s = at_s - self._filled_at_s
        return min(self._burst, self._level + self._rate * gone_s) if gone_s > 0 else self._level


class Quota:
    """A tenant's two buckets, requests and compute seconds; what passes must pass both."""

    def __init__(self, config: TenantConfig) -> None:
        self._seconds = _bucket(config.rate_s_per_s, config.burst_s)
        self._requests = _bucket(config.rate_requests_per_s, config.burst_requests)

    def wait_s(self, expected_s: float, at_s: float) -> float:
        """Seconds until a job of `expected_s` could pass; 0 now, infinite never."""
        seconds = self._seconds.wait_s(expected_s, at_s) if self._seconds is not None else 0.0
        requests = self._requests.wait_s(1.0, at_s) if self._requests is not None else 0.0
        return max(seconds, requests)

    def take(self, expected_s: float, at_s: float) -> None:
        """Charge a job that passed."""
        if self._seconds is not None:
            self._seconds.take(expected_s, at_s)
        if self._requests is not None:
            self._requests.take(1.0, at_s)


def _bucket(rate: float | None, burst: float | None) -> TokenBucket | None:
    return TokenBucket(rate, burst) if rate is not None and burst is not None else None
