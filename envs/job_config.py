"""That a scenario's `fit` job trains beside its requests, and which taus there are to choose among."""

from __future__ import annotations

import msgspec

from runtime.messages import FitJob, TauSpec
from runtime.topology import require

TAUS = (1, 2, 5, 10, 20, 50, 100)
"""Source: the fixed taus that Wang et al., JSAC 2019, compare with (figure 4), thinned."""
ENDLESS = 1_000_000
"""Rounds: a job beside requests ends with their episode."""


class JobConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[job]` table: its presence has the `[fit]` job train on the scenario's nodes during every episode, begun anew with each.

    What is trained, by how many clients, from which data, with which first tau and for how long adaptive tau plans is the
    `[fit]` table's to say.
    """

    taus: tuple[int, ...] = TAUS
    """Among which a controller chooses for the rounds to come; evaluations hold each of them fixed."""
    num_recordings: int = 2
    """Runs that `drlctl profile` records and fits the convergence model to, a tau of `taus` drawn for every round: runs of one tau each
    do not tell what a change of tau does.  One more like these only judges the model."""
    held_out_tau: int = 10
    """Of another run that only judges it, all its rounds alike."""
    record_s: float = 40.0
    """How long each of them is recorded."""

    def __post_init__(self) -> None:
        require(
            len(self.taus) > 0 and list(self.taus) == sorted(set(self.taus)) and self.taus[0] >= 1,
            f"job.taus rise and are >= 1, got {list(self.taus)}",
        )
        require(1 <= self.num_recordings <= 100, f"job.num_recordings must be in 1..100, got {self.num_recordings}")
        require(self.held_out_tau >= 1, f"job.held_out_tau must be >= 1, got {self.held_out_tau}")
        require(0 < self.record_s <= 3600, f"job.record_s must be in (0, 3600], got {self.record_s}")


def check_beside(job: JobConfig, fit: FitJob) -> None:
    """Raise ValueError for a job that cannot train beside requests, or whose progress no convergence model describes."""
    require(fit.architecture == "federated", f"a job beside requests is federated, fit.architecture is {fit.architecture!r}")
    require(fit.evaluate_every == 1, f"its loss is to be known after every round: set fit.evaluate_every to 1, got {fit.evaluate_every}")
    require(
        fit.sample_fraction == 1.0 and fit.privacy is None,
        "the device with the requests takes part in every round: leave fit.sample_fraction at 1 and fit.privacy out",
    )
    require(
        fit.tau.tau in job.taus, f"the tau that it begins with, fit.tau.tau, is one of job.taus, got {fit.tau.tau} and {list(job.taus)}"
    )
    highest = max(*job.taus, job.held_out_tau)
    require(highest <= fit.tau.max_tau, f"fit.tau.max_tau must be at least {highest}, got {fit.tau.max_tau}")


def beside(fit: FitJob, tau: TauSpec | None = None) -> FitJob:
    """The job as it trains beside requests: until it is stopped, kept nowhere; its tau is decided, or follows `tau`."""
    rule = tau or msgspec.structs.replace(fit.tau, rule="decided")
    return msgspec.structs.replace(fit, rounds=ENDLESS, target_accuracy=None, folder="", tau=rule)


def fixed_tau(fit: FitJob, tau: int) -> TauSpec:
    """Always so many local steps."""
    return msgspec.structs.replace(fit.tau, rule="fixed", tau=tau)


def decided_tau(fit: FitJob, first_tau: int) -> TauSpec:
    """Decided by the controller, round by round, after a first one of so many local steps."""
    return msgspec.structs.replace(fit.tau, rule="decided", tau=first_tau)


def adaptive_tau(fit: FitJob) -> TauSpec:
    """Adaptive tau with the job's own budget and phi.  Source: Wang et al., JSAC 2019, Algorithm 2."""
    return msgspec.structs.replace(fit.tau, rule="adaptive")
