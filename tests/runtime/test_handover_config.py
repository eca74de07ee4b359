"""Several edges in configuration: off by default, told as what they are, and errors name the key and what is allowed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from runtime.config import decode_config
from runtime.errors import InvalidConfig
from runtime.node import NodeConfig, build_machine
from runtime.protocol.edge_machine import EdgeMachine
from runtime.protocol.events import Send
from runtime.protocol.handover import HandoverConfig
from runtime.protocol.hosted_models import HostedModels
from runtime.topology import Topology
from tests.runtime.protocol_helpers import tick, tiny_manifest

GOOD = """
num_edges = 2
[neighbour]
delay_s = 0.002
rate = { kind = "constant", bytes_per_s = 1e7 }
[edge.handover]
margin_s = 0.01
"""


def topology(text: str) -> Topology:
    """As a scenario file's."""
    return decode_config(tomllib.loads(text), Topology, "topology")


def test_default_is_one_edge_that_does_all_itself() -> None:
    """A topology that says nothing has no neighbours, and its notice says nothing of them."""
    assert (Topology().num_edges, Topology().edge.handover) == (1, None)
    assert Topology().emulation_notice() == []


def test_a_file_switches_it_on_and_the_notice_says_so() -> None:
    """The emulated link is called so, and that neither simulator nor predictions know of the hand-over."""
    shared = topology(GOOD)
    assert (shared.num_edges, shared.neighbour.delay_s, shared.edge.handover) == (2, 0.002, HandoverConfig(margin_s=0.01))
    lines = shared.emulation_notice()
    assert any(line.startswith("neighbour: EMULATED") for line in lines)
    assert any("hand-over" in line and "simulator" in line for line in lines)
    assert topology("num_edges = 2\n[edge.handover]").edge.handover == HandoverConfig()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("num_edges = 2", "num_edges = 1", "set num_edges to 2 or more"),
        ("num_edges = 2", "num_edges = 99", r"num_edges must be in 1\.\.16, got 99"),
        ("margin_s = 0.01", "margin_s = -1.0", "margin_s must be finite and >= 0"),
        ("margin_s = 0.01", "margin = 0.01", "allowed: margin_s"),
        ("[edge.handover]", "[device.handover]", "only edges hand work over"),
        ("[edge.handover]", "[cloud.handover]", "only edges hand work over"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, words: str) -> None:
    """The key, what came, and what may come."""
    with pytest.raises(InvalidConfig, match=words):
        topology(GOOD.replace(old, new))


@pytest.mark.parametrize(("tier", "neighbours", "words"), [("cloud", ("a",), "only edges"), ("edge", ("a", "a"), "given once")])
def test_a_nodes_neighbours_are_other_edges(tier: str, neighbours: tuple[str, ...], words: str) -> None:
    """Other tiers have none, and nobody is named twice."""
    with pytest.raises(InvalidConfig, match=words):
        NodeConfig(name="x", tier=tier, model_dirs=(), neighbours=neighbours)  # type: ignore[arg-type]


def test_an_edge_pings_each_of_its_neighbours_over_the_neighbour_link(tmp_path: Path) -> None:
    """The node's configuration becomes a machine that knows their addresses; pings are delayed as the link is."""
    config = NodeConfig(
        name="edge", tier="edge", model_dirs=(str(tmp_path),), neighbours=("tcp://a:1", "tcp://b:2"), topology=topology(GOOD)
    )
    machine = build_machine(config, HostedModels([tiny_manifest()]), None)
    assert isinstance(machine, EdgeMachine)
    pings = [item for item in machine.handle(tick(1.0)) if isinstance(item, Send)]
    assert [(ping.target, ping.peer) for ping in pings] == [("neighbour", b"tcp://a:1"), ("neighbour", b"tcp://b:2")]
    assert [ping.release_at_s for ping in pings] == pytest.approx([1.002, 1.002])
