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
from runtime.models.difficulty import ensure_difficulty
from runtime.models.manifest import load_manifest
from runtime.node import NodeConfig
from runtime.topology import Topology

START_S = 60.0
"""A node takes 2 s on an idle core; where others had both cores and this one the lowest priority, it took more than 30.  One that
breaks while it starts is noticed at once."""
STOP_S = 5.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Process:
    """A child that announces itself with one JSON line on standard output, and ends when its parent does."""

    def __init__(self, argv: list[str], name: str, timeout_s: float = START_S) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process, closed by stop()
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
        self._popen = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment, process_group=0
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
            raise SystemFailure(f"{self.name} ended {_how(self._popen.returncode)}: {self.errors() or 'it said nothing'}")

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
                raise SystemFailure(
                    f"{self.name} was not ready within {timeout_s:g} s: {self.errors() or 'it said nothing'}"
                    f" (this host's load is {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)"
                )
        line = self._popen.stdout.readline()
        if not line:
            self._popen.wait()
            ended = f"{self.name} ended {_how(self._popen.returncode)} before it was ready"
            raise SystemFailure(f"{ended}: {self.errors() or 'it said nothing'}")
        ready = json.loads(line)
        if not (isinstance(ready, dict) and ready.get("ready")):
            raise SystemFailure(f"{self.name} announced {line!r}, expected a JSON object with ready=true")
        return ready


def _how(returncode: int) -> str:
    """A process that a signal ended has the signal's negative number."""
    return f"with exit code {returncode}" if returncode >= 0 else f"by signal {-returncode} ({signal.strsignal(-returncode)})"


class RunningNodes:
    """The nodes of one topology, running, by name (`node_name`).  Leaving its `with` block ends them all."""

    def __init__(self, entry: str = "runtime.node") -> None:
        self.processes: dict[str, Process] = {}
        """Those above first."""
        self.addresses: dict[str, str] = {}
        self.upstreams: dict[str, str] = {}
        """Name -> name of the node above; empty for the cloud."""
        self._configs: dict[str, NodeConfig] = {}
        self._entry = entry
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

    def start(self, config: NodeConfig, above: str = "") -> None:
        """Start one more node, below the one of that name.  Raises SystemFailure."""
        config = msgspec.structs.replace(config, upstream=self.addresses.get(above, ""))
        self.processes[config.name] = process = launch_node(config, self.directory, self._entry)
        self.addresses[config.name], self.upstreams[config.name] = str(process.ready["address"]), above
        self._configs[config.name] = msgspec.structs.replace(config, listen=self.addresses[config.name])

    def restart(self, name: str) -> None:
        """End a node if it still runs, and start it anew where it listened.  Raises SystemFailure."""
        self.processes[name].stop()
        self.start(self._configs[name], self.upstreams[name])

    def has_ended(self, name: str) -> bool:
        """Whether that node's process has ended; none is started again unless somebody calls `restart`."""
        return not self.processes[name].alive

    def check(self) -> None:
        """Raise SystemFailure if a node has ended."""
        for process in self.processes.values():
            process.check()

    def stop(self) -> None:
        """End them all at once; safe to call twice."""
        for process in reversed(self.processes.values()):
            process.signal(signal.SIGTERM)
        for process in reversed(self.processes.values()):
            process.stop()
        self._directory.cleanup()

    def __enter__(self) -> RunningNodes:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def launch_nodes(
    topology: Topology,
    *model_dirs: Path,
    entry: str = "runtime.node",
    controller: str = "",
    cost_model: str = "",
    num_devices: int = 1,
    preload: bool | None = None,
) -> RunningNodes:
    """Start cloud, edges and devices as processes talking over loopback TCP; edges that hand work over know each other.

    Devices are below the edges in turn; the first has the controller.  `preload` as in ModelSources.

    `entry` is the module that runs a node: `runtime.node`, or one that adds a fallback policy to the device.  With
    `topology.distribute` only the cloud has the folders, and the others fetch what they need, each into a store of its own.
    Where the device is to tell how hard inputs are, its first model's predictor is fitted if there is none yet.
    Raises SystemFailure when one does not start; none is left running then.
    """
    if topology.device.difficulty:
        ensure_difficulty(model_dirs[0])
    nodes = RunningNodes(entry)
    try:
        common = NodeConfig(
            name="cloud", tier="cloud", model_dirs=tuple(map(str, model_dirs)), topology=topology, preload=preload, exit_with_parent=True
        )
        for config, above in _configs(common, num_devices, controller, cost_model):
            nodes.start(_fetching(config, nodes.directory) if topology.fetches(config.tier) else config, above)
    except BaseException:
        nodes.stop()
        raise
    return nodes


def node_name(tier: Tier, index: int) -> str:
    """The first node of a tier is called like the tier, the next `edge-1` and so on."""
    return tier if index == 0 else f"{tier}-{index}"


def _configs(common: NodeConfig, num_devices: int, controller: str, cost_model: str) -> list[tuple[NodeConfig, str]]:
    """Every node with the name of the one above, from the cloud down."""

    def config(tier: Tier, index: int) -> NodeConfig:
        return msgspec.structs.replace(common, name=node_name(tier, index), tier=tier)

    num_edges = common.topology.num_edges
    edges = _acquainted([config("edge", index) for index in range(num_edges)])
    devices = [config("device", index) for index in range(num_devices)]
    devices[0] = msgspec.structs.replace(devices[0], controller=controller, cost_model=cost_model)
    below = [(device, node_name("edge", index % num_edges)) for index, device in enumerate(devices)]
    return [(common, ""), *((edge, common.name) for edge in edges), *below]


def _fetching(config: NodeConfig, directory: Path) -> NodeConfig:
    """The same without folders: it fetches into a store of its own."""
    models = tuple(load_manifest(Path(folder)).model for folder in config.model_dirs)
    return msgspec.structs.replace(config, model_dirs=(), models=models, store_dir=str(directory / f"{config.name}-store"))


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
