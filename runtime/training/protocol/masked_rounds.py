"""Rounds whose updates come masked: keys and shares go around first, and what is closed has still to be unmasked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runtime.messages import MIN_HIDDEN, Declined, Masking
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.mask_exchange import MaskExchange
from runtime.training.protocol.rounds import Rounds, RoundsPhase


class MaskedRounds(Rounds):
    """A round needs the threshold of its clients, above half of them and enough to hide in, at every step; `exchange` is the open
    round's."""

    exchange: MaskExchange | None = None

    @property
    def phase(self) -> RoundsPhase:
        """As every round's; failed too when clients could not agree on masks."""
        return "failed" if self.exchange is not None and self.exchange.phase == "lost" else super().phase

    @property
    def failure(self) -> str:
        """Why the round failed."""
        loss = self.exchange.loss if self.exchange is not None else None
        return f"secure aggregation lost the round: {loss}" if loss is not None else super().failure

    @property
    def deadline_at_s(self) -> float:
        """Of the round, or of the step of its masks that is waited for."""
        return min(super().deadline_at_s, self.exchange.deadline_at_s if self.exchange is not None else math.inf)

    def poll(self, at_s: float) -> list[Instruction]:
        """Time passed."""
        out = self.exchange.tick(at_s) if self.exchange is not None else []
        self._leave_out(at_s)
        return [*out, *super().poll(at_s)]

    def on_masking(self, event: Received) -> list[Instruction]:
        """Keys, shares, or what a survivor reveals."""
        if self.exchange is None:
            return []
        out = self.exchange.on_message(event)
        self._leave_out(event.at_s)
        return out

    def on_declined(self, declined: Declined, at_s: float) -> list[Instruction]:
        """A client will not answer: nobody waits for its shares either."""
        out = super().on_declined(declined, at_s)
        current = self.exchange is not None and self._open is not None and declined.round == self._open.state.config.round
        return [*out, *self.exchange.give_up_on(declined.client, at_s)] if current and self.exchange is not None else out

    # ------------------------------------------------------------ what is different in a round

    def _on_drawn(self, number: int, drawn: Sequence[str], at_s: float) -> None:
        examples = {name: self._members[name].num_examples for name in drawn}
        threshold = self._quorum(len(drawn))
        self.exchange = MaskExchange(
            self._job, number, examples, threshold, self._ports, lambda name: self._members[name].peer, at_s
        )  # fmt: skip

    def _masking(self, client: str) -> Masking | None:
        return self.exchange.place(client) if self.exchange is not None else None

    def _quorum(self, num_drawn: int) -> int:
        return max(super()._quorum(num_drawn), num_drawn // 2 + 1, MIN_HIDDEN)

    def _leave_out(self, at_s: float) -> None:
        if self.exchange is not None and self._open is not None:
            for name in self.exchange.gone:
                self._open.state.give_up_on(name, at_s)
