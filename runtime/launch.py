"""Starting a topology's nodes as processes on this host, and leaving none behind."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from runtime.errors import SystemFailure
from runtime.messages import Tier
from runtime.node import NodeConfig
from runtime.topology import Topology

START_S = 30.0
STOP_S = 5.0
_ABOVE: dict[Tier | str, str] = {"device": "edge", "edge": "cloud"}
"""Tier -> name of the node that is above its nodes."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Process:
    """A child that announces itself with one JSON line on standard output, and ends when its parent does."""

    def __init__(self, argv: list[str], name: str, timeout_s: float = START_S) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process, closed by stop()
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
        self._popen = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment, start_new_session=True
        )
        try:
            self.ready = self._read_ready(timeout_s)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Still running."""
        return self._popen.poll() is None

    def check(self) -> None:
        """Raise SystemFailure with what it wrote to standard error if it has ended."""
        if not self.alive:
            raise SystemFailure(f"{self.name} ended with exit code {self._popen.returncode}: {self.errors()}")

    def errors(self) -> str:
        """The end of what it wrote to standard error."""
        if self._errors.closed:
            return ""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4000))
        return self._errors.read().decode(errors="replace").strip()

    def signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        if self.alive:
            self._popen.send_signal(number)

    def stop(self, grace_s: float = STOP_S) -> int:
        """SIGTERM, wait, then SIGKILL; its exit code.  Safe to call twice."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            self._popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()
        self._errors.close()
        return self._popen.returncode

    def _read_ready(self, timeout_s: float) -> dict[str, object]:
        assert self._popen.stdout is not None
        until_s = time.perf_counter() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._popen.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, until_s - time.perf_counter())):
                raise SystemFailure(f"{self.name} was not ready within {timeout_s:g} s: {self.errors()}")
        line = self._popen.stdout.readline()
        if not line:
            self._popen.wait()
            raise SystemFailure(f"{self.name} ended with exit code {self._popen.returncode} before it was ready: {self.errors()}")
        ready = json.loads(line)
        if not (isinstance(ready, dict) and ready.get("ready")):
            raise SystemFailure(f"{self.name} announced {line!r}, expected a JSON object with ready=true")
        return ready


class RunningNodes:
    """The nodes of one topology, running, by name (`node_name`).  Leaving its `with` block ends them all."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.addresses: dict[str, str] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="drlctl-")

    @property
    def directory(self) -> Path:
        """Where their configuration files are."""
        return Path(self._directory.name)

    @property
    def device_address(self) -> str:
        """Where clients submit."""
        return self.addresses["device"]

    @property
    def edge_address(self) -> str:
        """Where the device and its neighbours send work: the first edge."""
        return self.addresses["edge"]

    @property
    def cloud_address(self) -> str:
        """Where the edge sends work."""
        return self.addresses["cloud"]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by node."""
        return {name: process.pid for name, process in self.processes.items()}

    def check(self) -> None:
        """Raise SystemFailure if a node has ended."""
        for process in self.processes.values():
            process.check()

    def stop(self) -> None:
        """End them all, devices first; safe to call twice."""
        for process in reversed(self.processes.values()):
            process.stop()
        self._directory.cleanup()

    def __enter__(self) -> RunningNodes:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def launch_nodes(
    topology: Topology, *model_dirs: Path, entry: str = "runtime.node", controller: str = "", cost_model: str = ""
) -> RunningNodes:
    """Start cloud, edges and device as processes talking over loopback TCP; edges that hand work over know each other.

    `entry` is the module that runs a node: `runtime.node`, or one that adds a fallback policy to the device.
    Raises SystemFailure when one does not start; none is left running then.
    """
    nodes = RunningNodes()
    try:
        for config in _configs(topology, tuple(map(str, model_dirs)), controller, cost_model):
            upstream = nodes.addresses.get(_ABOVE.get(config.tier, ""), "")
            process = launch_node(msgspec.structs.replace(config, upstream=upstream), nodes.directory, entry)
            nodes.processes[config.name], nodes.addresses[config.name] = process, str(process.ready["address"])
    except BaseException:
        nodes.stop()
        raise
    return nodes


def node_name(tier: Tier, index: int) -> str:
    """The first node of a tier is called like the tier, the next `edge-1` and so on."""
    return tier if index == 0 else f"{tier}-{index}"


def _configs(topology: Topology, model_dirs: tuple[str, ...], controller: str, cost_model: str) -> list[NodeConfig]:
    """Of every node, from the cloud down; who is above is known once it runs."""

    def config(tier: Tier, index: int = 0) -> NodeConfig:
        return NodeConfig(name=node_name(tier, index), tier=tier, model_dirs=model_dirs, topology=topology, exit_with_parent=True)

    edges = _acquainted([config("edge", index) for index in range(topology.num_edges)])
    return [config("cloud"), *edges, msgspec.structs.replace(config("device"), controller=controller, cost_model=cost_model)]


def _acquainted(edges: list[NodeConfig]) -> list[NodeConfig]:
    """Edges that each know where the others listen, if they may hand work over at all."""
    if len(edges) == 1 or edges[0].topology.edge.handover is None:
        return edges
    places = _free_addresses(len(edges))
    return [
        msgspec.structs.replace(edge, listen=own, neighbours=tuple(place for place in places if place != own))
        for edge, own in zip(edges, places, strict=True)
    ]


def _free_addresses(number: int) -> list[str]:
    """Loopback addresses that are free now: nodes that must know each other cannot each wait for the other's choice.

    Should another process take one before its node does, that node does not start, and says so.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def launch_node(config: NodeConfig, directory: Path, entry: str = "runtime.node") -> Process:
    """Start one node from its configuration."""
    path = directory / f"{config.name}.json"
    path.write_bytes(msgspec.json.encode(config))
    return Process([sys.executable, "-m", entry, "--config", str(path)], name=f"{config.name} node")


class RunningCluster:
    """A cloud, edges below it and devices below those, running.  Leaving its `with` block ends them all."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        """By name, those above first."""
        self.configs: dict[str, NodeConfig] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="drlctl-")

    def start(self, config: NodeConfig, entry: str = "runtime.node") -> str:
        """Start one more node, or a killed one again where it listened before; its address.  Raises SystemFailure."""
        self.processes[config.name] = process = launch_node(config, Path(self._directory.name), entry)
        address = str(process.ready["address"])
        self.configs[config.name] = msgspec.structs.replace(config, listen=address)
        return address

    def restart(self, name: str) -> None:
        """End a node if it still runs, and start it anew at its old address."""
        self.processes[name].stop()
        self.start(self.configs[name])

    def below(self, name: str) -> tuple[str, ...]:
        """Names of the nodes right below one."""
        return tuple(other for other, config in self.configs.items() if config.upstream == self.configs[name].listen)

    def check(self) -> None:
        """Raise SystemFailure if a node has ended."""
        for process in self.processes.values():
            process.check()

    def stop(self) -> None:
        """End them all at once; safe to call twice."""
        for process in self.processes.values():
            process.signal(signal.SIGTERM)
        for process in self.processes.values():
            process.stop()
        self._directory.cleanup()

    def __enter__(self) -> RunningCluster:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def launch_cluster(
    topology: Topology, *model_dirs: Path, num_devices: int, num_edges: int = 1, preload: bool = False, entry: str = "runtime.node"
) -> RunningCluster:
    """Start a cloud, `num_edges` edges and `num_devices` devices in turn below them, all on this host.

    Raises SystemFailure when one does not start; none is left running then.
    """
    cluster = RunningCluster()
    common = NodeConfig(
        name="cloud", tier="cloud", model_dirs=tuple(map(str, model_dirs)), topology=topology, preload=preload, exit_with_parent=True
    )
    try:
        cloud = cluster.start(common, entry)
        edges = [
            cluster.start(config, entry)
            for config in _acquainted(
                [msgspec.structs.replace(common, name=f"edge-{index}", tier="edge", upstream=cloud) for index in range(num_edges)]
            )
        ]
        for index in range(num_devices):
            upstream = edges[index % num_edges]
            cluster.start(msgspec.structs.replace(common, name=f"device-{index}", tier="device", upstream=upstream), entry)
    except BaseException:
        cluster.stop()
        raise
    return cluster
