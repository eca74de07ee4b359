"""From recorded live rounds to the profile of a job.  Needs scipy, of the `train` extra, for the fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from runtime.errors import InvalidInput
from runtime.messages import FitJob
from runtime.training.convergence import ConvergenceModel
from runtime.training.convergence_fit import error, fit
from runtime.training.job_profile import JobProfile, RunError, job_digest
from runtime.training.recording import Recording


def profile_job(
    job: FitJob, fitted: Sequence[Recording], held_out: Sequence[Recording], links_s: Callable[[float, float], float]
) -> JobProfile:
    """What recorded rounds say of the job; the runs `held_out` only judge the model.

    Times and bytes are medians, per step and per client.  `links_s(up_bytes, down_bytes)`: what the device's link takes for a
    round on average; what rounds took beyond that and computing is waiting for others and for the server.
    Raises InvalidInput when no round was recorded, or none of bytes and seconds, or too few to fit a model to.
    """
    records = [record for recording in (*fitted, *held_out) for record in recording.rounds]
    if not records:
        raise InvalidInput("no recorded rounds to take a training job's times from")
    step_s = float(np.median([record.compute_s / record.tau for record in records]))
    up_bytes, down_bytes = (float(np.median([getattr(r, name) / r.num_clients for r in records])) for name in ("up_bytes", "down_bytes"))
    if not (step_s > 0 and up_bytes > 0 and down_bytes > 0):
        raise InvalidInput(f"recorded rounds must say seconds and bytes, got {step_s} s a step, {up_bytes} bytes up and {down_bytes} down")
    beyond_s = float(np.mean([record.seconds - record.compute_s for record in records])) - links_s(up_bytes, down_bytes)
    model = fit(fitted)
    return JobProfile(
        digest=job_digest(job),
        step_s=step_s,
        up_bytes=up_bytes,
        down_bytes=down_bytes,
        aggregation_s=max(0.0, beyond_s),
        convergence=model,
        errors=(*(_error(model, one, held_out=False) for one in fitted), *(_error(model, one, held_out=True) for one in held_out)),
    )


def _error(model: ConvergenceModel, recording: Recording, *, held_out: bool) -> RunError:
    off, taus = error(model, [recording]), {record.tau for record in recording.rounds}
    return RunError(
        tau=taus.pop() if len(taus) == 1 else None,
        held_out=held_out,
        num_rounds=off.num_rounds,
        mean_relative=off.mean_relative,
        worst_relative=off.worst_relative,
    )
