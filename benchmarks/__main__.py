"""`make bench`: every benchmark in turn; `make bench ARGS=overhead` for one."""

from __future__ import annotations

import sys

from benchmarks import (
    batching,
    catalogue,
    codecs,
    convergence,
    daemon,
    difficulty,
    fit,
    handover,
    isolation,
    loading,
    overhead,
    reuse,
    sim_speed,
    throughput,
    train_and_serve,
)
from runtime.awake import NOTICE, kept_awake
from runtime.errors import InvalidProfile

BENCHMARKS = {
    "batching": batching.main,
    "catalogue": catalogue.main,
    "codecs": codecs.main,
    "convergence": convergence.main,
    "daemon": daemon.main,
    "difficulty": difficulty.main,
    "fit": fit.main,
    "handover": handover.main,
    "isolation": isolation.main,
    "loading": loading.main,
    "overhead": overhead.main,
    "reuse": reuse.main,
    "sim_speed": sim_speed.main,
    "throughput": throughput.main,
    "train_and_serve": train_and_serve.main,
}


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there is {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    with kept_awake() as awake:
        if awake:
            print(NOTICE)
        for name in names or BENCHMARKS:
            print(f"\n== {name}", flush=True)
            try:
                BENCHMARKS[name]()
            except InvalidProfile as exc:  # one that needs a profile of this machine; the others do not
                if names:
                    raise
                print(f"NOT RUN: {exc}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
