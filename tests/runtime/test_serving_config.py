"""Tenants and batches in configuration files: off by default, and errors name the key and what is allowed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from runtime.config import decode_config
from runtime.errors import InvalidConfig
from runtime.inference.batch_cost import fixed_fractions
from runtime.inference.batching import NO_BATCHING, BatchingConfig
from runtime.inference.engine import Engine
from runtime.inference.tenancy import ONE_TENANT
from runtime.topology import TierConfig, Topology

GOOD = """
[edge]
full_model_s = 0.02
[edge.batching]
max_batch = 8
fixed_fraction = 0.3
[edge.tenancy]
admission = true
[[edge.tenancy.tenants]]
name = "quiet"
weight = 2.0
[[edge.tenancy.tenants]]
name = "noisy"
rate_requests_per_s = 10.0
burst_requests = 5.0
"""


def topology(text: str) -> Topology:
    """As a scenario file's."""
    return decode_config(tomllib.loads(text), Topology, "topology")


def test_default_is_one_tenant_and_no_batches() -> None:
    """A topology that says nothing has neither, and its notice says nothing of them."""
    for tier in (Topology().device, Topology().edge, Topology().cloud):
        assert (tier.tenancy, tier.batching) == (ONE_TENANT, NO_BATCHING)
    assert Topology().emulation_notice() == []


def test_a_file_switches_them_on() -> None:
    """Nested tables become tenants and a batch limit; modelled batch times are called modelled."""
    edge = topology(GOOD).edge
    assert [(tenant.name, tenant.weight) for tenant in edge.tenancy.tenants] == [("quiet", 2.0), ("noisy", 1.0)]
    assert edge.batching.max_batch == 8
    assert any("MODELLED, 30%" in line for line in topology(GOOD).emulation_notice())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("max_batch = 8", "max_batch = 0", r"max_batch must be in 1\.\.1024, got 0"),
        ("max_batch = 8", "largest = 8", "allowed: max_batch, max_hold_s, max_stretch_s, fixed_fraction"),
        ("fixed_fraction = 0.3", "fixed_fraction = 1.5", r"fixed_fraction must be in 0\.\.1"),
        ("weight = 2.0", "share = 2.0", "allowed: name, weight"),
        ("weight = 2.0", "weight = -1.0", "weight must be finite and > 0"),
        ("burst_requests = 5.0", "", "come together"),
        ('name = "noisy"', 'name = "quiet"', "each name once"),
    ],
)
def test_mistakes_name_the_key(old: str, new: str, words: str) -> None:
    """What is wrong, where, and what could stand there."""
    with pytest.raises(InvalidConfig, match=words) as raised:
        topology(GOOD.replace(old, new, 1))
    assert "edge" in str(raised.value)


def test_cost_of_batches_is_as_configured_or_measured(digits_model: Path) -> None:
    """Nothing is measured where no batches form or the share is given; else every variant has a share."""
    engine = Engine(digits_model)
    assert fixed_fractions(engine, NO_BATCHING) == {}
    assert fixed_fractions(engine, BatchingConfig(max_batch=4, fixed_fraction=0.3)) == dict.fromkeys(engine.manifest.variants, 0.3)
    measured = fixed_fractions(engine, TierConfig(batching=BatchingConfig(max_batch=4)).batching)
    assert measured.keys() == engine.manifest.variants.keys()
    assert all(0 <= share <= 1 for share in measured.values())
