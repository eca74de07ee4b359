"""Reuse in a topology: off unless said, and clear about what may be said."""

from __future__ import annotations

import pytest

from runtime.config import decode_config
from runtime.errors import InvalidConfig
from runtime.inference.cache import CacheConfig
from runtime.inference.filter import FilterConfig
from runtime.topology import Topology


def test_a_scenario_switches_reuse_with_a_table() -> None:
    """Any tier may have a cache, the device a filter; an empty table is the defaults."""
    data = {
        "device": {"cache": {"max_bytes": 1000}, "filter": {"threshold": 3.0}},
        "edge": {"cache": {}},
        "cloud": {"cache": {"ttl_s": 5.0}},
    }
    topology = decode_config(data, Topology, "test")
    assert topology.device.cache == CacheConfig(max_bytes=1000)
    assert topology.device.filter == FilterConfig(threshold=3.0)
    assert (topology.edge.cache, topology.cloud.cache) == (CacheConfig(), CacheConfig(ttl_s=5.0))
    assert topology.without_reuse() == Topology()
    assert (Topology().device.cache, Topology().device.filter) == (None, None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"device": {"cache": {"max_byte": 1}}}, ["max_byte", "$.device.cache", "allowed: max_bytes, ttl_s, max_distance, any_form"]),
        ({"device": {"cache": {"ttl_s": 0.0}}}, ["ttl_s > 0", "$.device.cache"]),
        ({"device": {"cache": {"ttl_s": "long"}}}, ["float", "$.device.cache.ttl_s"]),
        ({"device": {"filter": {"measure": "hash"}}}, ["hash", "$.device.filter.measure"]),
        ({"device": {"filter": {"threshold": -1.0}}}, ["threshold >= 0", "$.device.filter"]),
        ({"edge": {"filter": {}}}, ["edge.filter", "only the device"]),
        ({"device": {"relevance": "file"}}, ["filter too", "$.device"]),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_is_allowed(data: dict[str, object], words: list[str]) -> None:
    """The place, what came, and what may come."""
    with pytest.raises(InvalidConfig) as caught:
        decode_config(data, Topology, "test")
    assert all(word in str(caught.value) for word in words), str(caught.value)
