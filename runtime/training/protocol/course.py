"""How far a job is, at the node that keeps its records: a root of any kind, or the observer of gossip.

joining ──all here, or a quorum at the deadline──► training ──rounds done, or the target reached──► done
   └── no quorum ──► failed ◄── too many failed rounds in a row ──┘

a round:  weights are there ──add──► judged ──► told ──► kept on disk       the next one may begin at `add`
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runtime.codec import MAX_HEADER_BYTES
from runtime.messages import FitJob, FitPhase, FitReport, RoundRecord

MAX_MESSAGE_CHARS = 500
REPORT_BYTES = MAX_HEADER_BYTES - 1024
"""A report is a header without tensors; the rest is for what is around it.  Who asks goes on after the last record that it heard of."""


class Course:
    """Phase, records and failures of one job.  Time comes in with the calls."""

    def __init__(self, job: FitJob, records: Sequence[RoundRecord], at_s: float, *, finished: bool = False) -> None:
        """`records` of an earlier start, in which `finished` the job may have ended before its last round."""
        self._job = job
        self._records = list(records)
        self._judging: RoundRecord | None = None
        self._began_at_s = at_s - (self._records[-1].at_s if self._records else 0.0)
        self._failed_in_a_row = 0
        self._wanted_tau: int | None = None
        self.join_by_s = at_s + job.join_deadline_s
        """When it begins with those who are here, if they are a quorum."""
        self.message = ""
        """What went wrong last."""
        self.is_over = finished or (bool(records) and self._is_last(records[-1]))
        """Whether no round is to come."""
        self.phase: FitPhase = "done" if self.is_over else "joining"

    @property
    def records(self) -> tuple[RoundRecord, ...]:
        """Of all rounds that are done; one that is still being judged is not among them."""
        return tuple(self._records)

    @property
    def num_rounds(self) -> int:
        """Rounds whose weights are there."""
        last = self._judging or (self._records[-1] if self._records else None)
        return last.round if last is not None else 0

    @property
    def next_is_evaluated(self) -> bool:
        """Whether the round under way ends with an evaluation."""
        number = self.num_rounds + 1
        due = number % self._job.evaluate_every == 0 or number >= self._job.rounds
        return due or self._job.target_accuracy is not None

    def lasted_s(self, at_s: float) -> float:
        """Since the job began; time between two starts is left out."""
        return at_s - self._began_at_s

    # ------------------------------------------------------------ tau

    def want_tau(self, tau: int) -> None:
        """Somebody decides on the local steps of the rounds to come."""
        self._wanted_tau = min(tau, self._job.tau.max_tau)

    def decided_tau(self, otherwise: int) -> int:
        """What was decided, if anything was and the job listens."""
        return otherwise if self._wanted_tau is None or self._job.tau.rule != "decided" else self._wanted_tau

    # ------------------------------------------------------------ from phase to phase

    def try_to_begin(self, here: Sequence[str], num_expected: int, quorum: int, at_s: float, *, having: str = "joined") -> bool:
        """Whether training begins now.  At the deadline without a quorum the job fails, for want of those `having` joined."""
        if self.phase != "joining" or (len(here) < num_expected and at_s < self.join_by_s):
            return False
        if len(here) < quorum:
            self.fail(f"only {', '.join(here) or 'nobody'} {having} in time, {quorum} are needed")
            return False
        self.phase = "training"
        return True

    def add(self, record: RoundRecord, *, finished: bool = False, then_judged: bool = False, then_kept: bool = False) -> None:
        """A round is done, and the job with it if it was the last, reached the target or `finished` it.

        With `then_judged` nobody is told of it before `judged` says what its weights are worth.  With `then_kept` the job is done
        only once `kept` says that what it came to is on disk: whoever hears of the end finds it there.
        """
        assert self._judging is None, "one round is judged at a time"
        self._judging = record
        self._failed_in_a_row, self.message = 0, ""
        self.is_over = finished or self._is_last(record)
        if not then_judged:
            self._tell(record)
        if self.is_over and not then_kept:
            self.phase = "done"

    def judged(self, accuracy: float | None, test_loss: float | None, error: str = "") -> None:
        """What the weights of the round that was added are worth, or why that is not known: it is told without, then."""
        assert self._judging is not None, "a round is added before it is judged"
        self.message = f"round {self.num_rounds} was not evaluated: {error}" if error else self.message
        self._tell(msgspec.structs.replace(self._judging, accuracy=accuracy, test_loss=test_loss))

    def kept(self, error: str = "") -> None:
        """What the rounds so far came to is on disk, or is not because of this error."""
        self.message = f"not saved: {error}" if error else self.message
        if self.is_over and self._judging is None and self.phase == "training":
            self.phase = "done"

    def try_again(self, why: str) -> bool:
        """A round brought nothing.  Whether it is tried again: after too many in a row the job fails."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._job.max_failed_rounds:
            self.fail(f"{self._failed_in_a_row} rounds failed in a row, the last one: {why}")
            return False
        self.message = f"round {self.num_rounds + 1} failed and is tried again: {why}"
        return True

    def fail(self, why: str) -> None:
        """The job ends here, without success."""
        self.phase, self.message = "failed", why

    def _tell(self, record: RoundRecord) -> None:
        self._judging = None
        self._records.append(record)
        self.is_over = self.is_over or self._is_last(record)

    def _is_last(self, record: RoundRecord) -> bool:
        target, accuracy = self._job.target_accuracy, record.accuracy
        return record.round >= self._job.rounds or (target is not None and accuracy is not None and accuracy >= target)

    # ------------------------------------------------------------ telling

    def report(self, request_id: int, since_round: int, *, tau: int, joined: tuple[str, ...]) -> FitReport:
        """How far the job is, with the records of rounds after `since_round`: as many as a message's header holds."""
        bare = FitReport(
            request_id=request_id,
            job=self._job.name,
            phase=self.phase,
            round=self._records[-1].round if self._records else 0,
            tau=tau,
            joined=joined,
            message=self.message[:MAX_MESSAGE_CHARS],
        )
        new = [record for record in self._records if record.round > since_round]
        return msgspec.structs.replace(bare, records=that_fit(new, REPORT_BYTES - len(msgspec.msgpack.encode(bare))))


def that_fit(records: Sequence[RoundRecord], num_bytes: int) -> tuple[RoundRecord, ...]:
    """The first records that take no more bytes than this together, and the first in any case: without it nobody gets further.

    One record and the names of all clients fit into a header: a job with more names is refused (runtime/training/places.py).
    """
    count = 0
    for record in records:
        num_bytes -= len(msgspec.msgpack.encode(record))
        if num_bytes < 0 and count:
            break
        count += 1
    return tuple(records[:count])
