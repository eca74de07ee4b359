"""Measurements that a node was asked for: checked, queued among the requests' work, answered when done."""

from __future__ import annotations

from runtime.errors import InvalidInput
from runtime.inference.tenancy import Refusal
from runtime.messages import Measure
from runtime.protocol.events import RunMeasure
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.scheduler import Scheduler


class Measurements:
    """Who asked for which measurement that is not done yet."""

    def __init__(self, models: HostedModels, scheduler: Scheduler, slowdown: float) -> None:
        self._models, self._scheduler, self._slowdown = models, scheduler, slowdown
        self._asked_by: dict[int, bytes] = {}

    def ask(self, peer: bytes, measure: Measure, at_s: float) -> Refusal | None:
        """Queue it; None when accepted.  Raises InvalidInput for what is not here."""
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
        refusal = self._scheduler.offer_measurement(job, self._slowdown * reference_s * measure.repeats, at_s)
        if refusal is None:
            self._asked_by[measure.request_id] = peer
        return refusal

    def asked_by(self, request_id: int) -> bytes:
        """The peer that waits for a measurement, which is done now."""
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
