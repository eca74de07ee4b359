"""What a client knows of its job, for whoever decides about the requests beside it: told with each round, and counted here."""

from __future__ import annotations

from runtime.messages import JobView, Round


class ClientSight:
    """One client's view of one job.  Pure: times come in."""

    def __init__(self) -> None:
        self._round: Round | None = None
        self._arrived_at_s = self._last_round_s = self._loss_drop = 0.0
        self._num_steps, self._decided_after = 0, -1

    def begin(self, message: Round, at_s: float) -> None:
        """A round's weights came.  An attempt that follows a failed one has the same weights, and what they brought stays."""
        before = self._round
        if before is not None and message.num_rounds > before.num_rounds:
            self._last_round_s = max(0.0, at_s - self._arrived_at_s)
            self._loss_drop = before.loss - message.loss if before.loss is not None and message.loss is not None else 0.0
        self._round, self._arrived_at_s, self._num_steps = message, at_s, 0

    def advance(self, round_number: int, num_steps: int) -> None:
        """So many local steps of that round are done."""
        if self._round is not None and round_number == self._round.round:
            self._num_steps = min(num_steps, self._round.tau)

    def decide(self) -> None:
        """A decision had a tau: none is due until a further round's weights come."""
        if self._round is not None:
            self._decided_after = self._round.num_rounds

    def view(self, at_s: float, outstanding_bytes: int) -> JobView | None:
        """What is known now; None before the first round, and where nobody knows the loss."""
        if self._round is None or self._round.loss is None:
            return None
        return JobView(
            num_rounds=self._round.num_rounds,
            tau=self._round.tau,
            num_steps=self._num_steps,
            since_s=max(0.0, at_s - self._arrived_at_s),
            last_round_s=self._last_round_s,
            loss=self._round.loss,
            loss_drop=self._loss_drop,
            drift=self._round.drift or 0.0,
            outstanding_bytes=outstanding_bytes,
            tau_due=self._round.num_rounds > self._decided_after,
        )
