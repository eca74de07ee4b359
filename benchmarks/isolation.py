"""What a quiet tenant feels of a noisy one: its p95 with and without the other, first come first served and fair.

One edge node whose worker is EMULATED (the full model takes `JOB_S`, so that the host's own noise counts little).
The quiet tenant asks for `QUIET_LOAD` of the worker's time, Poisson; the noisy one for `NOISY_LOAD`, ten times its half.
Both are open-loop clients over real sockets; latency is from the intended arrival until the answer is here.  `ratio` is
the p95 with the noisy tenant over the p95 without it, in one run; `ok` counts the quiet tenant's answers.
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
JOB_S = 0.02
QUIET_LOAD, NOISY_LOAD = 0.2, 5.0
NUM_QUIET, BUDGET_S = 200, 30.0
MAX_WAITING = 64
FAIR = TenancyConfig(tenants=(TenantConfig(name="quiet"), TenantConfig(name="noisy")))
QUEUES = {"first come": ONE_TENANT, "fair": FAIR}


def arrivals(noisy: bool, rng: np.random.Generator) -> list[tuple[float, str]]:
    """(instant, tenant) of every request, in order of time; the noisy tenant keeps on as long as the quiet one."""
    quiet_s = np.cumsum(rng.exponential(JOB_S / QUIET_LOAD, NUM_QUIET))
    number = int(quiet_s[-1] * NOISY_LOAD / JOB_S) if noisy else 0
    return sorted([(at_s, "quiet") for at_s in quiet_s] + [(at_s, "noisy") for at_s in rng.uniform(0, quiet_s[-1], number)])


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


def measure(directory: Path, tenancy: TenancyConfig, noisy: bool, context: Context) -> list[tuple[float, float]]:
    """A fresh node, the same arrivals of the quiet tenant each time."""
    manifest = load_manifest(directory)
    decision = Decision(model=MODEL, variant="fp32", cuts=(0, manifest.num_stages), exit=len(manifest.exit_ends) - 1)
    topology = Topology(edge=TierConfig(full_model_s=JOB_S, max_waiting=MAX_WAITING, tenancy=tenancy))
    config = NodeConfig(name="edge", tier="edge", model_dirs=(str(directory),), topology=topology, exit_with_parent=True)
    with tempfile.TemporaryDirectory() as folder:
        process = launch_node(config, Path(folder))
        try:
            with Session(context, str(process.ready["address"])) as session:
                session.status()
                return play(session, arrivals(noisy, np.random.default_rng(1)), decision, load_examples(directory, "test").images[0])
        finally:
            process.stop()


def main() -> None:
    directory = ensure_model(MODEL)
    print(
        f"A quiet tenant at {QUIET_LOAD:.0%} of an EMULATED edge worker ({JOB_S * 1e3:g} ms a job) beside a noisy one at {NOISY_LOAD:.0%}"
    )
    print(f"{'queue':<12}{'noisy':>7}{'ok':>9}{'p50 ms':>10}{'p95 ms':>10}{'ratio':>8}{'p95 wait ms':>13}{'ratio':>8}")
    with Context() as context:
        for name, tenancy in QUEUES.items():
            alone = np.empty(0)
            for noisy in (False, True):
                seconds = np.array(measure(directory, tenancy, noisy, context)).reshape(-1, 2)
                p95 = np.percentile(seconds, 95, axis=0)
                alone = alone if noisy else p95
                latency, wait = p95 / alone
                print(
                    f"{name:<12}{'yes' if noisy else 'no':>7}{f'{len(seconds)}/{NUM_QUIET}':>9}{np.median(seconds[:, 0]) * 1e3:>10.1f}"
                    f"{p95[0] * 1e3:>10.1f}{latency:>8.2f}{p95[1] * 1e3:>13.1f}{wait:>8.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
