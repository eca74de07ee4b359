"""Who a node is."""

from __future__ import annotations

import msgspec

from runtime.inference.batching import NO_BATCHING, BatchingConfig
from runtime.inference.tenancy import ONE_TENANT, TenancyConfig
from runtime.messages import Tier


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while a node runs."""

    name: str
    tier: Tier
    pid: int
    slowdown: float
    """1 on real hosts; more emulates a slower one."""
    max_waiting: int
    tenancy: TenancyConfig = ONE_TENANT
    batching: BatchingConfig = NO_BATCHING
    fixed_fractions: dict[str, dict[str, float]] = {}
    """Model -> variant -> share of a run's time that a batch pays once; needed where batches form."""
    slowdowns_above: tuple[float, ...] = ()
    """Of the tiers above, nearest first."""
