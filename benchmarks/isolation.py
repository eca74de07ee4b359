"""What a quiet tenant feels of a noisy one that asks for ten times its share in place of its share, with each kind of queue.

One edge node whose worker is EMULATED (the full model takes `JOB_S`, so that the host's own noise counts little); either
tenant's share is half of it.  The quiet tenant asks for 10, 30 or 45 % of the worker's time, Poisson, so 20, 60 or 90 % of
its share; the noisy one for half of the worker's time or for five times all of it.  Both are open-loop clients over real
sockets; latency is from the intended arrival until the answer is here.  `ratio` is p95 beside the noisy tenant at ten
times its share over p95 beside it at its share; `ok` counts the quiet tenant's answers.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from runtime.codec import from_frames
from runtime.inference.tenancy import ONE_TENANT, TenancyConfig, TenantConfig
from runtime.launch import launch_node
from runtime.messages import Decision, Failure, Result, Work
from runtime.models.build import ensure_model
from runtime.models.examples import load_examples
from runtime.models.manifest import load_manifest
from runtime.node import NodeConfig
from runtime.session import Session
from runtime.topology import TierConfig, Topology
from runtime.transport import Context, Poller

MODEL = "digits-cnn"
JOB_S = 0.01
SHARE = 0.5
QUIET_LOADS = (0.1, 0.3, 0.45)
NOISY_LOADS = (SHARE, 10 * SHARE)
PLAY_S, BUDGET_S = 10.0, 30.0
MAX_WAITING = 64
TENANTS = (TenantConfig(name="quiet"), TenantConfig(name="noisy"))
FAIR = TenancyConfig(tenants=TENANTS)
QUEUES = {
    "first come": ONE_TENANT,
    "fair, no credit": TenancyConfig(tenants=TENANTS, credit_s=0.0),
    f"fair, {FAIR.credit_s:g} s credit": FAIR,
}


def arrivals(quiet_load: float, noisy_load: float) -> list[tuple[float, str]]:
    """(instant, tenant) of every request, in order of time; the quiet tenant's are the same whatever the noisy one's are."""
    quiet, noisy = np.random.default_rng([1, 1]), np.random.default_rng([1, 2])
    number = int(PLAY_S * quiet_load / JOB_S)
    quiet_s = np.sort(quiet.uniform(0, PLAY_S, number))
    noisy_s = noisy.uniform(0, PLAY_S, noisy.poisson(PLAY_S * noisy_load / JOB_S))
    return sorted([(at_s, "quiet") for at_s in quiet_s] + [(at_s, "noisy") for at_s in noisy_s])


def play(session: Session, schedule: list[tuple[float, str]], decision: Decision, image: np.ndarray) -> list[tuple[float, float]]:
    """(latency, wait for the worker) of each of the quiet tenant's answered requests, seconds."""
    poller, zero_s = Poller([session.dealer]), time.perf_counter() + 0.1
    num_sent, open_quiet, latencies = 0, sum(tenant == "quiet" for _, tenant in schedule), []
    while open_quiet or num_sent < len(schedule):
        while num_sent < len(schedule) and zero_s + schedule[num_sent][0] <= time.perf_counter():
            work = Work(request_id=num_sent, decision=decision, stage=0, budget_s=BUDGET_S, tenant=schedule[num_sent][1])
            session.send(work, image)
            num_sent += 1
        rest_s = zero_s + schedule[num_sent][0] - time.perf_counter() if num_sent < len(schedule) else 1.0
        poller.wait(min(max(rest_s, 0.0), 1.0))
        while (frames := session.dealer.recv()) is not None:
            message, _ = from_frames(frames)
            if isinstance(message, Result | Failure) and schedule[message.request_id][1] == "quiet":
                open_quiet -= 1
                if isinstance(message, Result):
                    latency_s = time.perf_counter() - zero_s - schedule[message.request_id][0]
                    latencies.append((latency_s, message.spans[0].queue_s))
    return latencies


def measure(
    directory: Path, tenancy: TenancyConfig, schedule: list[tuple[float, str]], context: Context
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A fresh node under these arrivals: what `play` says, [answers, 2]."""
    manifest = load_manifest(directory)
    decision = Decision(model=MODEL, variant="fp32", cuts=(0, manifest.num_stages), exit=len(manifest.exit_ends) - 1)
    topology = Topology(edge=TierConfig(full_model_s=JOB_S, max_waiting=MAX_WAITING, tenancy=tenancy))
    config = NodeConfig(name="edge", tier="edge", model_dirs=(str(directory),), topology=topology, exit_with_parent=True)
    with tempfile.TemporaryDirectory() as folder:
        process = launch_node(config, Path(folder))
        try:
            with Session(context, str(process.ready["address"])) as session:
                session.status()
                image = load_examples(directory, "test").images[0]
                return np.array(play(session, schedule, decision, image)).reshape(-1, 2)
        finally:
            process.stop()


def compare(directory: Path, queue: str, quiet_load: float, context: Context) -> None:
    """Two rows of the table: the noisy tenant at its share, then at ten times of it."""
    before = np.empty(0)
    for noisy_load in NOISY_LOADS:
        schedule = arrivals(quiet_load, noisy_load)
        seconds = measure(directory, QUEUES[queue], schedule, context)
        p95 = np.percentile(seconds, 95, axis=0)
        before = before if before.size else p95
        latency, wait = p95 / before
        answered = f"{len(seconds)}/{sum(tenant == 'quiet' for _, tenant in schedule)}"
        print(
            f"{queue:<20}{quiet_load:>6.0%}{noisy_load:>7.0%}{answered:>9}{np.median(seconds[:, 0]) * 1e3:>9.1f}"
            f"{p95[0] * 1e3:>9.1f}{latency:>7.2f}{p95[1] * 1e3:>13.1f}{wait:>7.2f}",
            flush=True,
        )


def main() -> None:
    directory = ensure_model(MODEL)
    print(f"Two tenants of an EMULATED edge worker ({JOB_S * 1e3:g} ms a job), {SHARE:.0%} of it each; loads are of the whole worker")
    print(f"{'queue':<20}{'quiet':>6}{'noisy':>7}{'ok':>9}{'p50 ms':>9}{'p95 ms':>9}{'ratio':>7}{'p95 wait ms':>13}{'ratio':>7}")
    with Context() as context:
        for quiet_load in QUIET_LOADS:
            for queue in QUEUES:
                compare(directory, queue, quiet_load, context)


if __name__ == "__main__":
    main()
