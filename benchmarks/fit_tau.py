"""`python -m benchmarks.fit_tau [search]`: adaptive tau against every fixed tau under one budget of seconds.

The federated job of benchmarks/fit_accuracy.py with a smaller network.  Seconds are MODELLED, so that every tau pays the same
prices on any host: a local step takes a device `STEP_S`; a round also takes the links of the scenario `calm` the time for its
weights down and updates up, the wan being shared by all clients.  A run ends when the budget pays for no further round; adaptive tau
(Wang et al., JSAC 2019, algorithm 2) measures what it needs with one more gradient a round, which is charged as a step, and its
clients send a gradient's sketch beside each update, which is charged as the update is.  What counts is the loss on all clients' examples,
which the algorithm minimises.  In one process; some minutes on one core.
"""

from __future__ import annotations

import statistics
import sys

import msgspec

from benchmarks.fit_accuracy import SEARCH_SEEDS, SEEDS, each, percent
from benchmarks.in_process import JOB, Clock, Played, play, seeded_job
from envs.scenario import load_scenario
from experiments.stats import seeds_interval
from runtime.messages import NetworkSpec
from runtime.rates import ConstantRate, RateConfig
from runtime.topology import Topology
from runtime.training import flat
from runtime.training.tau_control import MORE_BYTES, MORE_GRADIENTS, AdaptiveTau, FixedTau, TauController
from runtime.training.trainer import make_job_network

TAUS = (1, 2, 5, 10, 20, 50, 100)
BUDGET_S = 20.0
STEP_S = 0.03
"""Of 32 pictures of 64 x 64, on one core of the machine that docs/fit.md names."""
PHI = 0.0002
PHIS = (0.025, 0.005, 0.001, 0.0002, 0.00005)
ENDLESS = msgspec.structs.replace(JOB, rounds=1 << 20, network=NetworkSpec(arguments={"pool": 4, "width": 0.5}))
NUM_SEEDS = 5


def main() -> None:
    clock = Clock(step_s=STEP_S, exchange_s=exchange_s(load_scenario("calm").topology, JOB.data.num_clients))
    print(f"MODELLED: {BUDGET_S:g} s, a local step {clock.step_s * 1e3:g} ms, everything else of a round {clock.exchange_s * 1e3:.0f} ms")
    print(f"{'tau':<22}{'rounds':>7}{'steps':>7}{'train loss':>12}   {'test accuracy':<22} by seed (loss)")
    losses = {f"fixed {tau}": report(f"fixed {tau}", FixedTau(tau=tau, budget=BUDGET_S), clock, SEEDS[:NUM_SEEDS]) for tau in TAUS}
    adaptive = report("adaptive", _adaptive(PHI), clock, SEEDS[:NUM_SEEDS])
    medians = [statistics.median(by_seed) for by_seed in zip(*losses.values(), strict=True)]
    ratio = seeds_interval([own / median for own, median in zip(adaptive, medians, strict=True)])
    better = sum(statistics.mean(adaptive) <= statistics.mean(one) for one in losses.values())
    print(
        f"loss of adaptive / of the median fixed tau, by seed: {ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]; the aim is at most 1"
    )
    print(f"adaptive is as good as or better than {better} of {len(TAUS)} fixed taus")


def search() -> None:
    clock = Clock(step_s=STEP_S, exchange_s=exchange_s(load_scenario("calm").topology, JOB.data.num_clients))
    for phi in PHIS:
        report(f"adaptive, phi {phi:g}", _adaptive(phi), clock, SEARCH_SEEDS)


def report(name: str, controller: TauController, clock: Clock, seeds: tuple[int, ...]) -> list[float]:
    """Loss on the training examples by seed, and a line that says more."""
    if isinstance(controller, AdaptiveTau):
        more_s = MORE_GRADIENTS * clock.step_s + _up_s(load_scenario("calm").topology, JOB.data.num_clients, MORE_BYTES)
        clock = clock._replace(exchange_s=clock.exchange_s + more_s)
    played = [play(seeded_job(ENDLESS, seed), controller, clock) for seed in seeds]
    losses = [one.train_loss for one in played]
    rounds, steps = (statistics.mean(values) for values in ([len(one.taus) for one in played], [sum(one.taus) for one in played]))
    accuracy = percent(seeds_interval([one.accuracy for one in played]))
    print(
        f"{_taus(name, played[0]):<22}{rounds:>7.0f}{steps:>7.0f}{statistics.mean(losses):>12.4f}   {accuracy:<22} "
        f"{' '.join(f'{loss:.3f}' for loss in losses)}   {each(played)}",
        flush=True,
    )
    return losses


def exchange_s(topology: Topology, num_clients: int) -> float:
    """What the links take for one round: the wan, which all share, one client after the other; the uplinks at the same time."""
    uplink, wan = topology.uplink, topology.wan
    num_bytes = 4 * flat.num_elements(make_job_network(ENDLESS))
    down_s = num_bytes * (1 / _rate(uplink.down_rate) + num_clients / _rate(wan.down_rate))
    return _up_s(topology, num_clients, num_bytes) + down_s + 2 * (uplink.delay_s + wan.delay_s)


def _up_s(topology: Topology, num_clients: int, num_bytes: int) -> float:
    return num_bytes * (1 / _rate(topology.uplink.rate) + num_clients / _rate(topology.wan.rate))


def _rate(rate: RateConfig) -> float:
    assert isinstance(rate, ConstantRate), "the links of `calm` are steady"
    return rate.bytes_per_s


def _adaptive(phi: float) -> AdaptiveTau:
    return AdaptiveTau(learning_rate=JOB.local.learning_rate, budget=BUDGET_S, phi=phi)


def _taus(name: str, played: Played) -> str:
    return f"{name}: {min(played.taus)}-{max(played.taus)}" if len(set(played.taus)) > 2 else name


if __name__ == "__main__":
    search() if sys.argv[1:] == ["search"] else main()
