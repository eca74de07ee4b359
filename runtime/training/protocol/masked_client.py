"""A client whose updates are masked: it exchanges keys and shares before its local steps, and reveals shares after them.

Round ──► MakeKeys ─ MaskKeys up ─ KeyBook ──► ShareKeys ─ KeyShares up ─ SealedShares ──► LocalSteps ─ Contribution up
                                                                           Survivors ──► Reveal ─ Revealed up
"""

from __future__ import annotations

import msgspec

from runtime.messages import (
    Declined,
    FitJob,
    KeyBook,
    KeyShares,
    MaskKeys,
    Message,
    Revealed,
    SealedShares,
    Survivors,
)
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.client import REJOIN_S, Client
from runtime.training.protocol.masking_tasks import KeysMade, KeysShared, MakeKeys, Reveal, ShareKeys, SharesRevealed
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.tasks import LocalSteps, Prepared, TrainerResult


class MaskedClient(Client):
    """Each step is taken once in a round: what comes again, or for another round, changes nothing."""

    def __init__(self, job: FitJob, prepared: Prepared, ports: Ports) -> None:
        super().__init__(job, prepared, ports)
        self._steps: LocalSteps | None = None
        self._done: set[type[Message]] = set()

    def on_message(self, event: Received) -> list[Instruction]:
        """The masks' messages, and rounds."""
        message = event.message
        if not isinstance(message, KeyBook | SealedShares | Survivors):
            return super().on_message(event)
        number = self._last_round if isinstance(message, Survivors) else self._round.round if self._round is not None else -1
        if event.source != "up" or message.client != self._name or message.round != number or type(message) in self._done:
            return []
        self._done.add(type(message))
        match message:
            case KeyBook():
                return [ShareKeys(job=self._job.name, round=number, keys=message.keys)]
            case SealedShares() if self._steps is not None:
                return [msgspec.structs.replace(self._steps, sealed=message.sealed)]
            case Survivors():
                return [Reveal(job=self._job.name, round=number, survivors=message.numbers)]
            case _:
                return []

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """Send what was made; without it there is no update of this client in the round."""
        name, job = self._name, self._job.name
        match result:
            case KeysMade(keys=keys, round=number) if keys is not None and self._is_on(number):
                return self._up(MaskKeys(job=job, client=name, round=number, keys=keys), at_s)
            case KeysShared(error="", round=number) if self._is_on(number):
                return self._up(KeyShares(job=job, client=name, round=number, sealed=result.sealed), at_s)
            case SharesRevealed(error="", round=number):
                revealed = Revealed(job=job, client=name, round=number, mask_keys=result.mask_keys, own_seeds=result.own_seeds)
                return self._up(revealed, at_s)
            case KeysMade() | KeysShared() if self._is_on(result.round):
                self._last_round, self._round, self._join_at_s = result.round, None, at_s + REJOIN_S
                return self._up(Declined(job=job, client=name, round=result.round, message=result.error[:500]), at_s)
            case _:
                return super().on_done(result, at_s)

    def _begin(self, steps: LocalSteps) -> list[Instruction]:
        assert self._round is not None
        self._steps, self._done = steps, set()
        if self._round.masking is None:
            return self._refuse_plain_round(steps.round)
        return [MakeKeys(job=self._job.name, round=steps.round, masking=self._round.masking)]

    def _refuse_plain_round(self, number: int) -> list[Instruction]:
        """A root that does not mask is not told anything."""
        self._last_round, self._round, self._join_at_s = number, None, self._arrived_at_s + REJOIN_S
        why = "the job's updates are masked, and this round has no place for masks"
        return self._up(Declined(job=self._job.name, client=self._name, round=number, message=why), self._arrived_at_s)

    def _is_on(self, number: int) -> bool:
        return self._round is not None and self._round.round == number

    def _up(self, message: Message, at_s: float) -> list[Instruction]:
        send = self._ports.up_control(message, at_s)
        return [send] if send is not None else []
