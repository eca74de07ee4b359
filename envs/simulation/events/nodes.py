"""The nodes of a topology in virtual time, wired as runtime/launch.py and runtime/node.py wire processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from envs.simulation.events.clock import Clock
from envs.simulation.events.front import VirtualDevice
from envs.simulation.events.host import Hear, Host, Route
from envs.simulation.events.library import Library
from envs.simulation.events.looks import Pictures
from envs.simulation.events.scene import Scene
from envs.simulation.events.wires import VirtualConnection, VirtualDownstream
from runtime.inference.filter import load_relevance
from runtime.links import EmulatedLink
from runtime.messages import TIERS, Tier
from runtime.protocol.device_machine import DeviceMachine
from runtime.protocol.downstream import Downstream
from runtime.protocol.edge_machine import EdgeMachine
from runtime.protocol.events import Source
from runtime.protocol.identity import Identity
from runtime.protocol.node_machine import NodeMachine
from runtime.protocol.residency import Residency
from runtime.protocol.streams import Streams
from runtime.topology import LinkConfig

DEVICE, EDGE, CLOUD = (tier.encode() for tier in TIERS)


class Nodes:
    """Device, edges and cloud, fresh: nobody has heard of anybody."""

    def __init__(self, scene: Scene, clock: Clock, pictures: Pictures, hear: Hear) -> None:
        """`hear` gets what the device says to its client and to its controller."""
        self._scene, self._clock, self._pictures, self._hear = scene, clock, pictures, hear
        self.edge_names = [EDGE, *(b"edge-%d" % index for index in range(1, scene.scenario.topology.num_edges))]
        self.device_machine = self._device()
        self.device = self._host("device", self.device_machine)
        self.cloud = self._host("cloud", self._cloud())
        self.edges = {name: self._host("edge", self._edge(name.decode())) for name in self.edge_names}
        self._wire()

    def _host(self, tier: Tier, machine: NodeMachine) -> Host:
        scene = self._scene
        host = Host(self._clock, machine, scene.workers[tier], scene.looks[tier], self._pictures, self._hear)
        if scene.loading is not None:
            has_files = not scene.scenario.topology.fetches(tier)
            host.library = Library(self._clock, scene.loading, scene.manifests[tier], has_files, host.handle)
        return host

    def _residency(self, tier: Tier) -> Residency | None:
        """None where everything is in memory for good."""
        topology = self._scene.scenario.topology
        if not topology.loads_late(tier):
            return None
        return Residency([self._scene.manifests[tier]], topology.tier(tier).model_memory_bytes)

    def _wire(self) -> None:
        join(self.device, DEVICE, self.edges[EDGE], "up", b"")
        for name, edge in self.edges.items():
            join(edge, name, self.cloud, "up", b"")
            for other in self._neighbours(name):
                join(edge, name, self.edges[other], "neighbour", other)

    # ------------------------------------------------------------ machines

    def _device(self) -> DeviceMachine:
        scene, topology = self._scene, self._scene.scenario.topology
        tier, overheads = topology.device, scene.profile.overheads
        relevance = load_relevance(Path(tier.relevance)) if tier.filter is not None and tier.relevance else None
        return VirtualDevice(
            self._identity("device", "device"),
            scene.models["device"],
            self._connection("uplink", scene.uplink, overheads.uplink_s / 2),
            max_in_flight=topology.max_in_flight,
            decision_budget_s=float("inf"),  # whoever decides here is never late
            compute_power=topology.compute_power,
            radio_power=topology.radio_power,
            controller=True,
            cache=tier.cache,
            streams=Streams(tier.filter, relevance) if tier.filter is not None else None,
            difficulty=scene.difficulty,
            residency=self._residency("device"),
        )

    def _edge(self, name: str) -> EdgeMachine:
        scene, topology = self._scene, self._scene.scenario.topology
        overheads, own = scene.profile.overheads, "" if name == "edge" else f":{name}"
        hop_s = overheads.wan_s / 2  # from edge to edge as from edge to cloud
        neighbours = {
            other: self._connection(f"neighbour{own}", scene.neighbour, hop_s, "neighbour", other)
            for other in self._neighbours(name.encode())
        }
        below = VirtualDownstream(
            maker("uplink", scene.uplink), scene.cargos.bytes_of, overheads.uplink_s / 2, maker("neighbour", scene.neighbour), hop_s
        )
        return EdgeMachine(
            self._identity(name, "edge"),
            scene.models["edge"],
            self._connection(f"wan{own}", scene.wan, overheads.wan_s / 2),
            below,
            cache=topology.edge.cache,
            neighbours=neighbours,
            handover=topology.edge.handover,
            residency=self._residency("edge"),
        )

    def _cloud(self) -> NodeMachine:
        scene = self._scene
        below: Downstream = VirtualDownstream(maker("wan", scene.wan), scene.cargos.bytes_of, scene.profile.overheads.wan_s / 2)
        cache = scene.scenario.topology.cloud.cache
        residency = self._residency("cloud")
        return NodeMachine(self._identity("cloud", "cloud"), scene.models["cloud"], None, below, cache=cache, residency=residency)

    def _identity(self, name: str, tier: Tier) -> Identity:
        config = self._scene.scenario.topology.tier(tier)
        return Identity(
            name=name,
            tier=tier,
            pid=0,
            slowdown=1.0,  # a tier's slowness is in its manifest's seconds
            max_waiting=config.max_waiting,
            tenancy=config.tenancy,
            batching=config.batching,
            fixed_fractions=self._scene.fixed_fractions[tier],
            slowdowns_above=(1.0,) * (len(TIERS) - 1 - TIERS.index(tier)),
        )

    def _connection(self, link: str, config: LinkConfig, hop_s: float, target: Source = "up", name: bytes = b"") -> VirtualConnection:
        topology, line = self._scene.scenario.topology, EmulatedLink(config.rate, config.delay_s, config.jitter_s, link, "up")
        periods = topology.telemetry_period_s, topology.peer_timeout_s
        return VirtualConnection(line, *periods, self._scene.cargos.bytes_of, hop_s, target, name)

    def _neighbours(self, name: bytes) -> list[bytes]:
        """The edges that an edge may hand work to."""
        hands_over = self._scene.scenario.topology.edge.handover is not None
        return [other for other in self.edge_names if other != name] if hands_over else []


def maker(name: str, config: LinkConfig) -> Callable[[], EmulatedLink]:
    """Makes the link for answers to one node."""
    return lambda: EmulatedLink(config.down_rate, config.delay_s, config.jitter_s, name, "down")


def join(below: Host, name: bytes, above: Host, target: Source, as_target: bytes) -> None:
    """Let the node of that name send to another as its `target`, and hear from it as such."""
    below.routes[target, as_target] = Route(above, "down", name)
    above.routes["down", name] = Route(below, target, as_target)
