"""How far the convergence model is off: fitted to recorded rounds of three taus, judged on runs of others."""

from __future__ import annotations

import time

from benchmarks.federated_runs import record_run
from runtime.training.convergence_fit import error, fit
from runtime.training.recording import Recording

NUM_STEPS, LEAST_ROUNDS = 320, 10
FITTED, HELD_OUT = (1, 5, 20), (2, 10, 50)


def record(tau: int, *, seed: int = 0, num_clients: int = 8) -> Recording:
    """About as many local steps whatever tau is."""
    return record_run(tau, max(NUM_STEPS // tau, LEAST_ROUNDS), seed=seed, num_clients=num_clients)


def main() -> None:
    runs = {tau: record(tau) for tau in (*FITTED, *HELD_OUT)}
    began_s = time.perf_counter()
    model = fit([runs[tau] for tau in FITTED])
    print(f"fitted to taus {FITTED} in {time.perf_counter() - began_s:.1f} s: {model}")
    print(f"{'tau':>4} {'':9} {'rounds':>6} {'last loss':>9} {'|error|':>8} {'relative':>8} {'worst':>6}")
    for tau, run in sorted(runs.items()):
        off = error(model, [run])
        kind = "fitted" if tau in FITTED else "held out"
        print(
            f"{tau:4} {kind:9} {off.num_rounds:6} {run.rounds[-1].loss:9.3f} "
            f"{off.mean_absolute:8.3f} {off.mean_relative:8.1%} {off.worst_relative:6.1%}"
        )
