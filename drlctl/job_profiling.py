"""Measuring the training job beside a scenario's requests: live rounds without requests, and the convergence model fitted to them."""

from __future__ import annotations

import time

import numpy as np

from drlctl.output import Progress
from envs.job_config import JobConfig, decided_tau, fixed_tau
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

_SEEDS, _STARTS_S = range(8), tuple(range(0, 60, 5))
"""Realisations of a link's rate, and instants in them, over which a transfer's time is averaged."""

MIN_ROUNDS, MAX_STRETCH = 20, 3.0
"""Of a recording: more rounds than the model has parameters, on slow hosts for up to so many times as long as was asked for."""


def profile_job_live(scenario: Scenario, nodes: RunningNodes, uplink: LinkProfile, progress: Progress) -> JobProfile | None:
    """Record the job's rounds on the scenario's running nodes and fit to them; None for a scenario without a job.

    Raises InvalidInput when too few rounds were done even in `MAX_STRETCH` times `job.record_s`, SystemFailure when the job failed.
    """
    job = live_job(scenario, nodes)
    if job is None:
        return None
    from runtime.training.job_profiler import profile_job  # scipy, which only those need who have a job

    with job:
        fitted, held_out = _record(scenario, job, progress)
    link = link_in_force(scenario.topology.uplink, uplink)

    def links_s(up_bytes: float, down_bytes: float) -> float:
        return mean_transfer_s(link.rate, "up", up_bytes) + mean_transfer_s(link.down_rate, "down", down_bytes) + 2 * link.delay_s

    return profile_job(scenario.fit, fitted, held_out, links_s)


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
        *map(str, measured.errors),
    ]


def _record(scenario: Scenario, job: LiveJob, progress: Progress) -> tuple[list[Recording], list[Recording]]:
    """Runs to fit a model to, and runs to judge it by: the last of drawn taus, and one of a tau that stays."""
    assert scenario.job is not None
    config, fit = scenario.job, scenario.fit
    rules = [*[decided_tau(fit, fit.tau.tau)] * (config.num_recordings + 1), fixed_tau(fit, config.held_out_tau)]
    recordings = []
    for index, rule in enumerate(rules):
        taus = "drawn taus" if rule.rule == "decided" else f"tau {rule.tau}"
        progress(f"recording rounds of {taus} for {config.record_s:g} s", index / len(rules))
        job.begin(index, rule)
        _play(job, config, np.random.default_rng([fit.seed, index]) if rule.rule == "decided" else None)
        records, initial_loss = job.records, job.report.initial_loss
        job.end()
        if not records:
            raise InvalidInput(f"no round of {taus} was done in {config.record_s * MAX_STRETCH:g} s: record longer, with [job] record_s")
        recordings.append(recording_of(records, fit.local.learning_rate, initial_loss))
    return recordings[: config.num_recordings], recordings[config.num_recordings :]


def _play(job: LiveJob, config: JobConfig, rng: np.random.Generator | None) -> None:
    """Until time is up and `MIN_ROUNDS` are done; after every round a tau is drawn for those to come, unless there is nobody to draw."""
    began_at_s = time.perf_counter()
    while (lasted_s := time.perf_counter() - began_at_s) < config.record_s * MAX_STRETCH:
        num_rounds = len(job.records)
        if lasted_s >= config.record_s and num_rounds >= MIN_ROUNDS:
            return
        until_s = config.record_s if num_rounds >= MIN_ROUNDS else config.record_s * MAX_STRETCH
        job.wait(num_rounds + 1, until_s - lasted_s)
        if rng is not None:
            job.decide(int(rng.choice(config.taus)))
