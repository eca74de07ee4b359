"""What the controller daemon adds: a device's question and answer against a raw ZeroMQ echo of the same bytes.

Three things are measured in turn, round by round, in one run: the echo, the decision alone in this process
(decode, decide, encode), and the daemon.  The weights are random; they do not change the time.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

import numpy as np
import psutil

from agents.bundle import Bundle, BundleManifest, Provenance, save_bundle
from agents.network import NetworkShape
from benchmarks.echo import Echo
from drlctl.controller import Controller, prepare
from envs.catalogue import build_catalogue, decisions_digest
from envs.costs import CostModel, build_cost_model
from envs.features import CANDIDATE_FIELDS, MYOPIC_INDEX, SCHEMA, STATE_FIELDS
from envs.scenario import load_scenario
from runtime.codec import from_frames, to_frames
from runtime.launch import Process
from runtime.messages import LinkView, NodeView, Observation
from runtime.profile import load_profile
from runtime.transport import Context, Dealer, Poller

ROUNDS, REPEATS = 20, 200
HIDDEN_SIZE = 32


def random_bundle() -> Bundle:
    """A bundle for the shipped profile, untrained."""
    scenario = load_scenario("congested")
    with resources.as_file(resources.files("envs") / "profiles" / "digits-cnn.json") as path:
        every = build_cost_model(load_profile(path), scenario)
    cost_model: CostModel = every.restrict(build_catalogue(every, samples=2000).decisions)
    shape = NetworkShape(
        state_size=len(STATE_FIELDS), candidate_size=len(CANDIDATE_FIELDS), hidden_size=HIDDEN_SIZE, myopic_index=MYOPIC_INDEX
    )
    rng = np.random.default_rng(0)
    arrays = {name: np.asarray(0.1 * rng.standard_normal(size), np.float32) for name, size in shape.tensor_shapes().items()}
    arrays["kappa"] = np.full((), 10.0, np.float32)
    manifest = BundleManifest(
        algorithm="ppo",
        network=shape,
        feature_schema=SCHEMA,
        catalogue_digest=decisions_digest(cost_model.decisions),
        cost_model=cost_model,
        weights_sha256="",
        provenance=Provenance(scenario="congested", seed=0, timesteps=0, profile_digest="", created_at=""),
    )
    return Bundle(manifest=manifest, arrays=arrays)


def busy_observation() -> Observation:
    """Something waits everywhere."""
    node = NodeView(backlog_s=0.02, num_waiting=2, num_own=1, age_s=0.03)
    link = LinkView(rate_bytes_per_s=4e5, delay_s=0.01, outstanding_bytes=2e4, age_s=0.2)
    return Observation(
        request_id=1 << 33,
        model="digits-cnn",
        at_s=1.5,
        deadline_s=0.3,
        num_in_flight=3,
        arrival_rate_per_s=30.0,
        nodes=(node, node, node),
        links=(link, link),
    )


def decision_times_s(controller: Controller, question: list[bytes | memoryview], repeats: int) -> list[float]:
    """Decode, decide, encode, here."""
    times = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        message, _ = from_frames(question)
        assert isinstance(message, Observation)
        to_frames(controller.answer(message).message)
        times.append(time.perf_counter() - started_s)
    return times


def daemon_times_s(dealer: Dealer, poller: Poller, question: list[bytes | memoryview], repeats: int) -> list[float]:
    """Ask the daemon and hear from it."""
    times = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        while not dealer.send(question):
            poller.wait(0.01)  # not connected yet
        while dealer.recv() is None:
            poller.wait(1.0)
        times.append(time.perf_counter() - started_s)
    return times


def main() -> None:
    bundle, question = random_bundle(), to_frames(busy_observation())
    controller = Controller(prepare(bundle))
    answer = to_frames(controller.answer(busy_observation()).message)
    print(f"The daemon: {bundle.manifest.cost_model.num_decisions} candidates, question {len(question[0])} bytes, answer {len(answer[0])}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        save_bundle(bundle, path)
        process = Process([sys.executable, "-m", "drlctl", "serve", str(path), "--exit-with-parent"], "controller daemon")
        try:
            with Echo(len(answer[0])) as echo, Context() as context:
                dealer = context.dealer(str(process.ready["address"]))
                poller = Poller([dealer])
                daemon_times_s(dealer, poller, question, REPEATS)
                echoes, alone, daemons = [], [], []
                for _ in range(ROUNDS):
                    echoes.append(echo.round_trips_s([len(question[0])], REPEATS))
                    alone.append(decision_times_s(controller, question, REPEATS))
                    daemons.append(daemon_times_s(dealer, poller, question, REPEATS))
                dealer.close()
            show("raw echo", echoes)
            show("decode, decide, encode alone", alone)
            show("daemon", daemons)
            rounds = list(zip(*([statistics.median(times) for times in part] for part in (echoes, alone, daemons)), strict=True))
            print(f"daemon / echo              {statistics.median(c / a for a, _, c in rounds):.2f}  (p50, median of rounds)")
            print(f"daemon / (echo + decision) {statistics.median(c / (a + b) for a, b, c in rounds):.2f}")
            print(f"daemon's resident memory   {psutil.Process(process.pid).memory_info().rss / 1e6:.0f} MB")
        finally:
            process.stop()


def show(name: str, rounds: list[list[float]]) -> None:
    times = np.concatenate(rounds) * 1e6
    print(
        f"{name:<30} p50 {np.quantile(times, 0.5):7.0f} us   p99 {np.quantile(times, 0.99):7.0f} us   least {times.min():7.0f} us",
        flush=True,
    )


if __name__ == "__main__":
    main()
