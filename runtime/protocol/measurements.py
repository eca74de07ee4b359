"""Measurements that a node was asked for: checked, queued among the requests' work, answered when done."""

from __future__ import annotations

from runtime.codec import to_frames
from runtime.errors import InvalidInput
from runtime.inference.tenancy import Refusal
from runtime.messages import Failure, Measure, Measured, Status
from runtime.models.pieces import Piece
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Instruction, MeasuredRun, RunMeasure, Send
from runtime.protocol.fetching import Trouble
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.identity import Identity
from runtime.protocol.loading import Loading
from runtime.protocol.scheduler import Scheduler, piece_of


class Measurements:
    """Who asked for which measurement that is not done yet."""

    def __init__(
        self, models: HostedModels, scheduler: Scheduler, downstream: Downstream, identity: Identity, loading: Loading | None = None
    ) -> None:
        self._models, self._scheduler, self._down = models, scheduler, downstream
        self._slowdown, self._max_waiting, self._loading = identity.slowdown, identity.max_waiting, loading
        self._asked_by: dict[int, bytes] = {}
        self._pieces: dict[int, Piece] = {}

    def ask(self, peer: bytes, measure: Measure, at_s: float) -> list[Instruction]:
        """Queue a measurement, once its piece is in memory; tell the asker of one that cannot be."""
        if measure.request_id in self._asked_by:
            if self._asked_by[measure.request_id] == peer:
                return []  # a retry of what is being done already
            return [self._refuse(peer, measure.request_id, "bad_input", "this request id is in use", at_s)]
        try:
            reference_s = self._reference_s(measure)
        except InvalidInput as exc:
            return [self._refuse(peer, measure.request_id, "bad_input", str(exc), at_s)]
        job = RunMeasure(
            request_id=measure.request_id,
            model=measure.model,
            variant=measure.variant,
            start=measure.start,
            stop=measure.stop,
            exit=measure.exit,
            repeats=measure.repeats,
            pace_s=self._slowdown * reference_s if self._slowdown > 1 else 0.0,
        )
        self._asked_by[job.request_id] = peer
        pieces = (piece_of(job),)
        if self._loading is None or self._loading.ready(pieces):
            return self.go_on(job, None, at_s)
        trouble = self._wait(self._loading, job, pieces)
        return self.go_on(job, trouble, at_s) if trouble is not None else []

    def go_on(self, job: RunMeasure, trouble: Trouble | None, at_s: float) -> list[Instruction]:
        """Queue one whose piece is in memory, or cannot be."""
        refusal: Trouble | Refusal | None = trouble
        if trouble is None:
            self._pieces[job.request_id] = piece_of(job)
            refusal = self._scheduler.offer_measurement(job, self._slowdown * self._expected_s(job), at_s)
        if refusal is None:
            return []
        return [self._refuse(self._ended(job.request_id), job.request_id, refusal.status, refusal.message, at_s)]

    def done(self, event: MeasuredRun) -> list[Instruction]:
        """Answer the asker."""
        peer = self._ended(event.request_id)
        if event.error:
            return [self._refuse(peer, event.request_id, "internal", event.error, event.at_s)]
        answer = Measured(request_id=event.request_id, tier_s=event.tier_s, host_s=event.host_s)
        return [Send(target="down", peer=peer, frames=to_frames(answer))]

    @property
    def pieces(self) -> set[Piece]:
        """What must stay in memory for those that are queued."""
        return set(self._pieces.values())

    def refuse_waiting(self, message: str, at_s: float) -> list[Instruction]:
        """None is queued any more: tell their askers.  What runs runs out, and is answered."""
        running = self._scheduler.running_measurement
        waiting = [request_id for request_id in self._asked_by if request_id != running]
        return [self._refuse(self._ended(request_id), request_id, "peer_lost", message, at_s) for request_id in waiting]

    def _wait(self, loading: Loading, job: RunMeasure, pieces: tuple[Piece, ...]) -> Trouble | None:
        if loading.num_waiting >= self._max_waiting:
            return Trouble(reason="overload", message=f"{loading.num_waiting} wait for models to be loaded")
        return loading.wait(job, pieces)

    def _ended(self, request_id: int) -> bytes:
        self._pieces.pop(request_id, None)
        return self._asked_by.pop(request_id, b"")

    def _refuse(self, peer: bytes, request_id: int, status: Status, message: str, at_s: float) -> Send:
        return self._down.control(peer, Failure(request_id=request_id, status=status, message=message), at_s)

    def _expected_s(self, job: RunMeasure) -> float:
        return job.repeats * self._models.find(job.model).reference_s(job.variant, job.start, job.stop, job.exit)

    def _reference_s(self, measure: Measure) -> float:
        manifest = self._models.find(measure.model)
        end = manifest.num_stages
        if measure.exit is not None:
            if not 0 <= measure.exit < len(manifest.exit_ends):
                raise InvalidInput(f"exit {measure.exit} does not exist; exits are 0..{len(manifest.exit_ends) - 1}")
            end = manifest.exit_ends[measure.exit]
            if measure.stop != end:
                raise InvalidInput(f"exit {measure.exit} follows stage {end}, not {measure.stop}")
        if measure.variant not in manifest.variants:
            raise InvalidInput(f"{measure.model}/{measure.variant} is not here")
        if not 0 <= measure.start < measure.stop <= end:
            raise InvalidInput(f"stages [{measure.start}, {measure.stop}) do not exist")
        return manifest.reference_s(measure.variant, measure.start, measure.stop, measure.exit)
