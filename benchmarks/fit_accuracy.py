"""`python -m benchmarks.fit_accuracy [search]`: what federated averaging loses against training on all examples in one place.

Digits, 8 clients, Dirichlet(0.5) (Hsu et al., 2019: two or three classes a client), 60 rounds of 10 steps with batches of 32;
centralised: 600 steps with batches of 256, so that both take as many steps one after the other and see as many examples.  Each has
settings of its own, chosen on the validation split with other seeds than those that are reported; `search` prints the whole grid.  In
one process, without links (benchmarks/in_process.py); some twelve minutes on one core, `search` half an hour.
"""

from __future__ import annotations

import itertools
import statistics
import sys

import msgspec

from benchmarks.in_process import JOB, Played, play, seeded_job
from experiments.stats import Estimate, seeds_interval
from runtime.messages import FitJob, LocalSpec

SEEDS, SEARCH_SEEDS = (1, 2, 3, 4, 5), (101, 102)
LEARNING_RATES, MOMENTA = (0.03, 0.1, 0.3), (0.0, 0.9)
AGGREGATORS = ("fedavg", "fedavgm")
BEST = {
    "federated": JOB,
    "centralised": msgspec.structs.replace(JOB, architecture="centralised", local=LocalSpec(learning_rate=0.1, momentum=0.0)),
}


def main() -> None:
    print("Test accuracy on digits after 60 rounds of 10 steps, 8 clients, Dirichlet(0.5); mean and 95 % interval over seeds")
    played = {name: [play(seeded_job(job, seed)) for seed in SEEDS] for name, job in BEST.items()}
    for name, job in BEST.items():
        print(
            f"{name:<14}{settings(job):<40}{percent(seeds_interval([one.accuracy for one in played[name]]))}   by seed {each(played[name])}"
        )
    apart = [one.accuracy - other.accuracy for one, other in zip(*played.values(), strict=True)]
    print(f"federated - centralised, the same seeds: {percent(seeds_interval(apart), points=True)}; the aim is above -1 point")


def search() -> None:
    print(f"Validation accuracy, mean of seeds {SEARCH_SEEDS}")
    for architecture, rate, momentum in itertools.product(BEST, LEARNING_RATES, MOMENTA):
        for aggregator in AGGREGATORS if architecture == "federated" else AGGREGATORS[:1]:
            local = LocalSpec(learning_rate=rate, momentum=momentum)
            job = msgspec.structs.replace(JOB, architecture=architecture, local=local, aggregator=aggregator)
            found = [play(seeded_job(job, seed)) for seed in SEARCH_SEEDS]
            print(f"{architecture:<14}{settings(job):<40}{statistics.mean(one.validation for one in found):.1%}", flush=True)


def settings(job: FitJob) -> str:
    """What is searched over."""
    return f"lr {job.local.learning_rate:g}, momentum {job.local.momentum:g}, {job.aggregator}"


def percent(interval: Estimate, *, points: bool = False) -> str:
    """Mean and interval as people read them."""
    mean, low, high = (100 * value for value in (interval.mean, interval.low, interval.high))
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]" if points else f"{mean:.1f} % [{low:.1f}, {high:.1f}]"


def each(played: list[Played]) -> str:
    """Accuracies by seed."""
    return " ".join(f"{100 * one.accuracy:.1f}" for one in played)


if __name__ == "__main__":
    search() if sys.argv[1:] == ["search"] else main()
