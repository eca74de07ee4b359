"""`python -m benchmarks.fit_compression [search | TAU ...]`: how many fewer bytes go up, and what that costs in accuracy.

The federated job of benchmarks/fit_accuracy.py, 600 steps of each client, exchanged after every TAU of them: 1, which is SGD with
every gradient exchanged, 5 and 10.  Each compressor against none at the same tau; bytes are those of the frames that clients send,
headers included.  Differences are paired by seed.  In one process, without links; a minute and a half for each line and seed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from benchmarks.fit_accuracy import SEARCH_SEEDS, SEEDS, each, percent, settings
from benchmarks.in_process import JOB, Played, play, seeded_job
from experiments.stats import seeds_interval
from runtime.messages import FitJob, LocalSpec, TauSpec

AIM_FACTOR, AIM_POINTS = 100, -0.5
NUM_STEPS = 600
COMPRESSORS = {
    1: ("identity", "topk3+sign+ef", "topk1+sign+ef"),
    5: ("identity", "topk3+sign+ef"),
    10: ("identity", "topk3+sign+ef", "topk2+qsgd4+ef"),
}
"""By tau; the first is what the others are compared with."""
SEARCH = {
    f"{name} lr {rate:g}": msgspec.structs.replace(JOB, compressor=name, local=LocalSpec(learning_rate=rate))
    for name in ("topk3+sign+ef", "topk1+sign+ef", "topk2+qsgd4+ef", "dgc+qsgd8")
    for rate in (0.03, 0.1, 0.2)
}


def main(taus: tuple[int, ...]) -> None:
    print(f"Bytes sent up and test accuracy; the aim is {AIM_FACTOR} times fewer at no more than {-AIM_POINTS} points lower accuracy")
    for tau in taus:
        rounds = NUM_STEPS // tau
        print(f"{rounds} rounds of {tau} step{'s' if tau > 1 else ', every gradient exchanged'}")
        job = msgspec.structs.replace(JOB, tau=TauSpec(tau=tau), rounds=rounds)
        report({name: msgspec.structs.replace(job, compressor=name) for name in COMPRESSORS[tau]}, SEEDS)


def search() -> None:
    print(f"Seeds {SEARCH_SEEDS}; settings are chosen by the validation split")
    report({"identity": JOB, **SEARCH}, SEARCH_SEEDS)


def report(jobs: Mapping[str, FitJob], seeds: tuple[int, ...]) -> None:
    """A line for each job, the first one being what the others are compared with."""
    base: list[Played] = []
    for name, job in jobs.items():
        played = [play(seeded_job(job, seed)) for seed in seeds]
        base = base or played
        num_bytes = sum(one.up_bytes for one in played) / len(played)
        apart = seeds_interval([one.accuracy - other.accuracy for one, other in zip(played, base, strict=True)])
        validation = sum(one.validation for one in played) / len(played)
        accuracy = percent(seeds_interval([one.accuracy for one in played]))
        print(
            f"{name:<24}{settings(job):<34}{num_bytes / 1e3:>10.1f} kB up, {base[0].up_bytes / num_bytes:>6.1f} times fewer   "
            f"validation {validation:.1%}   test {accuracy}, {percent(apart, points=True)}   {each(played)}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["search"]:
        search()
    elif set(sys.argv[1:]) <= set(map(str, COMPRESSORS)):
        main(tuple(map(int, sys.argv[1:])) or tuple(COMPRESSORS))
    else:
        sys.exit(f"{sys.argv[1:]}: expected `search` or some of {', '.join(map(str, COMPRESSORS))}")
