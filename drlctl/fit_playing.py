"""Training jobs played on running nodes: one, or all that are left of a run."""

from __future__ import annotations

from drlctl.output import Progress, note
from experiments.fit_run import FitLedger
from runtime.errors import DrlctlError, InvalidInput, PeerLost, RoundFailed, SystemFailure
from runtime.launch import RunningNodes
from runtime.messages import FitJob, RoundRecord
from runtime.training.places import assign_roles
from runtime.training.session import FitSession


def play_rest(nodes: RunningNodes, ledger: FitLedger, progress: Progress) -> None:
    """Play what is left of a run; of several jobs one that these nodes refuse, or that fails on them, is told and left out.

    Raises what `play_job` raises; InvalidInput and RoundFailed only when no job comes to anything.
    """
    jobs = ledger.to_play
    for index, job in enumerate(jobs):
        try:
            records = play_job(nodes, job, part_of(progress, index, len(jobs)))
        except (InvalidInput, RoundFailed) as exc:
            if not ledger.run.jobs and len(ledger.to_play) == 1:
                raise
            note(f"{job.name} is left out: {exc}")
            ledger.leave_out(job, str(exc))
        else:
            ledger.add(job, records)


def play_job(nodes: RunningNodes, job: FitJob, progress: Progress) -> tuple[RoundRecord, ...]:
    """One job from its start, or from where it was left, to its end: the records of all rounds.

    Raises InvalidInput when a node refuses it, RoundFailed, PeerLost, and SystemFailure where a node that has ended is why.
    """
    with FitSession(job, assign_roles(job, nodes.upstreams, nodes.addresses), nodes.has_ended) as session:
        progress(f"{job.name}: nodes load torch and data", 0.0)
        try:
            ready = session.start()
            before = max(one.resumed_round for one in ready.values())
            if before:
                note(f"job {job.name!r} goes on after round {before}")
            report = session.run(lambda record, _: progress(round_line(job, record), record.round / job.rounds))
        except (PeerLost, RoundFailed) as exc:
            blame_the_dead(nodes, exc)
            session.stop()
            raise
        except InvalidInput:
            session.stop()  # those that did not refuse it are free for the next
            raise
        session.stop()
    return report.records


def blame_the_dead(nodes: RunningNodes, failure: DrlctlError) -> None:
    """Raise SystemFailure with the last words of a node that has ended, if one has: they say more than what came of it."""
    try:
        nodes.check()
    except SystemFailure as dead:
        raise SystemFailure(f"{dead}; so {failure}") from failure


def part_of(progress: Progress, index: int, count: int) -> Progress:
    """Shows one of several jobs as a part of them all."""
    return lambda text, share: progress(text, (index + share) / count)


def round_line(job: FitJob, record: RoundRecord) -> str:
    """A round for people."""
    accuracy = f", accuracy {record.accuracy:.1%}" if record.accuracy is not None else ""
    missing = f", {len(record.missing)} missing" if record.missing else ""
    return f"{job.name}: round {record.round} of {job.rounds}, tau {record.tau}, loss {record.loss:.3f}{accuracy}{missing}"
