"""Measuring the training job beside a scenario's requests: live rounds without requests, and the convergence model fitted to them."""

from __future__ import annotations

import numpy as np

from drlctl.output import Progress
from envs.job_config import fixed_tau
from envs.live_job import LiveJob, live_job
from envs.scenario import Scenario
from envs.simulation.setup import link_in_force
from runtime.errors import InvalidInput
from runtime.launch import RunningNodes
from runtime.links import RateTrace
from runtime.profile import LinkProfile
from runtime.rates import RateConfig, draw_trace
from runtime.training.job_profile import JobProfile
from runtime.training.recording import Recording, recording_of

MANY_ROUNDS = 10_000
"""More than are recorded: time ends a recording."""
_SEEDS, _STARTS_S = range(8), tuple(range(0, 60, 5))
"""Realisations of a link's rate, and instants in them, over which a transfer's time is averaged."""


def profile_job_live(scenario: Scenario, nodes: RunningNodes, uplink: LinkProfile, progress: Progress) -> JobProfile | None:
    """Record the job's rounds on the scenario's running nodes and fit to them; None for a scenario without a job.

    Raises InvalidInput when too few rounds were done in the scenario's `job.record_s`, SystemFailure when the job failed.
    """
    job = live_job(scenario, nodes)
    if job is None:
        return None
    from runtime.training.job_profiler import profile_job  # scipy, which only those need who have a job

    with job:
        recordings = _record(scenario, job, progress)
    link = link_in_force(scenario.topology.uplink, uplink)

    def links_s(up_bytes: float, down_bytes: float) -> float:
        return mean_transfer_s(link.rate, "up", up_bytes) + mean_transfer_s(link.down_rate, "down", down_bytes) + 2 * link.delay_s

    assert scenario.job is not None
    return profile_job(scenario.fit, recordings, scenario.job.held_out_tau, links_s)


def mean_transfer_s(rate: RateConfig, direction: str, num_bytes: float) -> float:
    """How long so many bytes take on an idle link, on average."""
    traces = [RateTrace(draw_trace(rate, seed, "uplink", direction)) for seed in _SEEDS]
    times = [trace.time_of(trace.bytes_until(start_s) + num_bytes) - start_s for trace in traces for start_s in _STARTS_S]
    return float(np.mean(times))


def job_lines(measured: JobProfile) -> list[str]:
    """What was measured, for people."""
    times = f"a local step {measured.step_s * 1e3:.1f} ms, {measured.up_bytes / 1e3:.0f} kB up"
    return [
        f"the training job beside the requests: {times}, and {measured.aggregation_s * 1e3:.0f} ms of a round for everybody else",
        *(
            f"convergence model, tau {off.tau} ({'held out' if off.held_out else 'fitted'}): {off.mean_relative:.1%} off on average,"
            f" {off.worst_relative:.1%} at worst, over {off.num_rounds} rounds"
            for off in measured.errors
        ),
    ]


def _record(scenario: Scenario, job: LiveJob, progress: Progress) -> dict[int, Recording]:
    assert scenario.job is not None
    taus, recordings = sorted({*scenario.job.recorded_taus, scenario.job.held_out_tau}), dict[int, Recording]()
    for index, tau in enumerate(taus):
        progress(f"recording rounds of tau {tau} for {scenario.job.record_s:g} s", index / len(taus))
        job.begin(index, fixed_tau(scenario.fit, tau))
        job.wait(MANY_ROUNDS, scenario.job.record_s)
        records, initial_loss = job.records, job.report.initial_loss
        job.end()
        if not records:
            raise InvalidInput(f"no round of tau {tau} was done in {scenario.job.record_s:g} s: record longer, with [job] record_s")
        recordings[tau] = recording_of(records, scenario.fit.local.learning_rate, initial_loss)
    return recordings
