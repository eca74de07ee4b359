"""Measurements that a node was asked for: checked, queued among the requests' work, answered when done."""

from __future__ import annotations

from runtime.errors import InvalidInput
from runtime.inference.tenancy import Refusal
from runtime.messages import Measure
from runtime.models.pieces import Piece
from runtime.protocol.events import RunMeasure
from runtime.protocol.fetching import Trouble
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.loading import Loading
from runtime.protocol.scheduler import Scheduler


class Measurements:
    """Who asked for which measurement that is not done yet."""

    def __init__(self, models: HostedModels, scheduler: Scheduler, slowdown: float, loading: Loading | None = None) -> None:
        self._models, self._scheduler, self._slowdown, self._loading = models, scheduler, slowdown, loading
        self._asked_by: dict[int, bytes] = {}
        self._pieces: dict[int, Piece] = {}

    def ask(self, peer: bytes, measure: Measure, at_s: float) -> Refusal | Trouble | None:
        """Queue it, once its piece is in memory; None when accepted.  Raises InvalidInput for what is not here."""
        reference_s = self._reference_s(measure)
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
        pieces = self.pieces_of(job)
        if self._loading is None or self._loading.ready(pieces):
            return self.offer(job, at_s)
        return self._loading.wait(job, pieces)

    def offer(self, job: RunMeasure, at_s: float) -> Refusal | None:
        """Queue what is in memory; None when accepted."""
        (self._pieces[job.request_id],) = self.pieces_of(job)
        reference_s = self._models.find(job.model).reference_s(job.variant, job.start, job.stop, job.exit)
        return self._scheduler.offer_measurement(job, self._slowdown * reference_s * job.repeats, at_s)

    def pieces_of(self, job: RunMeasure) -> tuple[Piece, ...]:
        """The one that it runs."""
        return (Piece(model=job.model, variant=job.variant, start=job.start, stop=job.stop, exit=job.exit),)

    @property
    def pieces(self) -> set[Piece]:
        """What must stay in memory for those that are queued."""
        return set(self._pieces.values())

    def forget_waiting(self) -> None:
        """A new episode: none is queued any more."""
        self._pieces.clear()

    def asked_by(self, request_id: int) -> bytes:
        """The peer that waits for a measurement, which has ended now."""
        self._pieces.pop(request_id, None)
        return self._asked_by.pop(request_id)

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
